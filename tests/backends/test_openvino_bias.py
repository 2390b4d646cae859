"""Corrected biases: an int8 layer's outputs are on average those of the float layer."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.tiny import SHAPE, tiny_images, tiny_onnx
from toolchain.backends import Calibration
from toolchain.backends.openvino_bias import biased_layers, correct_biases
from toolchain.backends.openvino_graph import graph_from_onnx, import_openvino
from toolchain.backends.openvino_int8 import quantize

OUTPUTS = 6


def layer_onnx(path, kind):
    """Images -> one layer with a bias -> its outputs, which are the model's."""
    rng, pixels = np.random.default_rng(0), int(np.prod(SHAPE))
    shapes = {
        "linear": (pixels, OUTPUTS),
        "convolution": (OUTPUTS, 3, *SHAPE[:2]),
        "depthwise": (OUTPUTS, 1, *SHAPE[:2]),
    }
    constants = {
        "scale": np.array(1 / 64, np.float32),
        "weights": rng.normal(0.2, 0.4, shapes[kind]).astype(np.float32),
        "bias": rng.normal(0, 1, OUTPUTS).astype(np.float32),
    }
    layers = {
        "linear": [
            helper.make_node("Flatten", ["scaled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["y"]),
        ],
        "convolution": [helper.make_node("Conv", ["scaled", "weights", "bias"], ["y"])],
        "depthwise": [helper.make_node("Conv", ["scaled", "weights", "bias"], ["y"], group=3)],
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        *layers[kind],
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SHAPE])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "layer", [image], [out], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def mean_outputs(graph, images):
    fixed = graph.clone()
    fixed.reshape([1, *SHAPE])
    compiled = import_openvino().Core().compile_model(fixed, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.mean([compiled(images[row : row + 1])[0].ravel() for row in range(len(images))], axis=0)


@pytest.mark.parametrize("kind", ["linear", "convolution", "depthwise"])
def test_a_layers_mean_error_on_the_calibration_images_is_taken_off_its_bias(kind, tmp_path):
    graph, images = graph_from_onnx(layer_onnx(tmp_path / "in.onnx", kind)), tiny_images(24)
    rounded = quantize(graph, Calibration(images, bias_correction="off"))
    exact = mean_outputs(graph, images)
    before = np.abs(mean_outputs(rounded, images) - exact).max()
    correct_biases(rounded, graph, images)
    assert np.abs(mean_outputs(rounded, images) - exact).max() < before / 20


def test_a_layer_without_a_bias_stays_as_it_is(tmp_path):
    graph, images = graph_from_onnx(tiny_onnx(tmp_path / "in.onnx")), tiny_images(8)
    rounded = quantize(graph, Calibration(images, bias_correction="off"))
    with_bias = [layer.weighted.weights.get_friendly_name() for layer in biased_layers(rounded)]
    assert len(with_bias) == 1, with_bias  # the last; both convolutions have none
    before = {node.get_friendly_name() for node in rounded.get_ops()}
    correct_biases(rounded, graph, images)
    assert {node.get_friendly_name() for node in rounded.get_ops()} == before


def test_a_graph_without_any_bias_is_left_alone(tmp_path):
    model = onnx.load(tiny_onnx(tmp_path / "in.onnx"))
    model.graph.node[-1].input.pop()
    onnx.save(model, tmp_path / "bare.onnx")
    graph, images = graph_from_onnx(tmp_path / "bare.onnx"), tiny_images(8)
    rounded = quantize(graph, Calibration(images, bias_correction="off"))
    before = mean_outputs(rounded, images)
    correct_biases(rounded, graph, images)
    assert (mean_outputs(rounded, images) == before).all()
