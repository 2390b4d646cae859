"""Layers by the names that recipes use, weights rounded in the graph, and learned quantization left unchanged."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.engines import Settings, open_engine
from tests.backends.tiny import SHAPE, tiny_images, tiny_onnx
from toolchain.backends import Rounding, backend
from toolchain.backends.openvino_graph import graph_from_onnx, holds_integers, layers, match_layers, round_weights
from toolchain.errors import BackendError


@pytest.fixture
def graph(tmp_path):
    return graph_from_onnx(tiny_onnx(tmp_path / "in.onnx"))


def kinds(graph):
    return [layer.weights.get_element_type().to_string() for layer in layers(graph)]


def bits_of(layer):
    return int(np.unique(layer.weights.data).size)


def test_layers_are_named_and_found_by_pattern(graph):
    names = [layer.name for layer in layers(graph)]
    assert len(names) == 3
    assert [layer.name for layer in match_layers(graph, (names[0], names[2]))] == [names[0], names[2]]
    with pytest.raises(BackendError, match=rf"ignore: no layer 'stage\*'; the nearest are: .*{names[0]}"):
        match_layers(graph, ("stage*",))


def test_all_layers_are_rounded_and_the_first_and_last_to_eight_bits(graph):
    assert not holds_integers(graph)
    round_weights(graph, Rounding(1))
    assert holds_integers(graph)
    first, middle, last = layers(graph)
    assert bits_of(middle) == 2
    assert min(bits_of(first), bits_of(last)) > 16


def test_an_ignored_layer_stays_float(graph):
    round_weights(graph, Rounding(4, ignore=(layers(graph)[1].name,)))
    assert kinds(graph) == ["i8", "f32", "i8"]


def test_ignoring_all_layers_is_refused(graph):
    with pytest.raises(BackendError, match="quantize_weights found no float weights to round"):
        round_weights(graph, Rounding(4, ignore=("*",)))


@pytest.mark.parametrize("group", [None, 4])
def test_rounded_weights_give_nearly_the_same_outputs(group, tmp_path):
    onnx_file, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    logits = []
    for precision, rounding in (("fp32", None), ("int8w", Rounding(8, group))):
        candidate = openvino.build(onnx_file, tmp_path / precision, precision, None, rounding)
        with open_engine(tmp_path / precision, candidate, Settings(threads=1)) as engine:
            logits.append(engine.infer({"image": tiny_images(20)})["logits"])
    assert np.abs(logits[0] - logits[1]).max() < 0.02 * np.abs(logits[0]).max()


def learned_onnx(path, high):
    """uint8 image - Q/DQ - conv with integer weights of -high-1..high behind DequantizeLinear - mean."""
    weights = np.random.default_rng(0).integers(-high - 1, high + 1, (32, SHAPE[2], 5, 5)).astype(np.int8)
    constants = {
        "scale": np.float32(1.0),
        "zero": np.uint8(0),
        "w": weights,
        "ws": np.linspace(0.01, 0.02, 32).astype(np.float32),
        "wz": np.zeros(32, np.int8),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["float", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wide"], axis=0),
        helper.make_node("Conv", ["dq", "wide"], ["conv"]),
        helper.make_node("GlobalAveragePool", ["conv"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "learned",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 32])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("high", "bits"), [(7, 4), (1, 2), (127, 8)])
def test_learned_weights_are_stored_packed_and_computed_in_int8(high, bits, tmp_path):
    onnx_file = learned_onnx(tmp_path / "in.onnx", high)
    candidate = backend("openvino").build(onnx_file, tmp_path, "int8", None)
    assert candidate.options == ({"weight_bits": float(bits)} if bits < 8 else {})
    assert candidate.files[0].endswith(".packed" if bits < 8 else ".xml")
    expected = onnx_logits(onnx_file, tiny_images(3))
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        logits = engine.infer({"image": tiny_images(3)})["logits"]
        nodes = [node.get_rt_info() for node in vars(engine)["_compiled_models"][1].get_runtime_model().get_ops()]
    np.testing.assert_allclose(logits, expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max())
    computed = {
        info["runtimePrecision"].astype(str) for info in nodes if info["layerType"].astype(str) == "Convolution"
    }
    assert computed <= {"u8", "i8"}, "the convolution must run on integers, whatever the stored width of its weights"


def onnx_logits(path, feed):
    import onnxruntime

    options = onnxruntime.SessionOptions()  # as written: fused into integers, its sums saturate without VNNI
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": feed})[0]
