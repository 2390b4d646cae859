"""Models from quantization-aware training, run by ONNX Runtime and by OpenVINO."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from deploy.runtime.engines import Settings, open_engine
from tests.compress.nets import CLASSES, PREPROCESSING, SHAPE, part, tiny
from toolchain.backends import backend
from toolchain.compress.quantization.fake_quantize import WeightQuantizer, observe_ranges
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.step import LearnedQuantization
from toolchain.export import check_onnx, onnx_from_torch, torch_logits
from toolchain.models.cifar import Block
from toolchain.models.preprocessing import normalize_images

IMAGES: NDArray[np.uint8] = np.asarray(part(40, 0).images, np.uint8)


def quantized(module: nn.Module, weight_bits: int, activation_bits: int | None = 8) -> nn.Module:
    """With ranges as seen on IMAGES."""
    pictures = normalize_images(torch.from_numpy(IMAGES), PREPROCESSING)
    made = prepare_qat(module.eval(), LearnedQuantization(weight_bits, activation_bits), True, True, pictures[:1])
    with torch.no_grad(), observe_ranges(made):
        made(pictures)
    return made.eval()


def exported(module: nn.Module, folder: Path) -> onnx.ModelProto:
    onnx_from_torch(module, PREPROCESSING, folder / "model.onnx")
    check_onnx(folder / "model.onnx", module, PREPROCESSING, IMAGES)
    return onnx.load(folder / "model.onnx")


def integer_weights(graph: onnx.GraphProto) -> list[NDArray[np.int8]]:
    found = [numpy_helper.to_array(one) for one in graph.initializer if one.data_type == TensorProto.INT8]
    return [one for one in found if one.ndim > 1]


class Small(nn.Module):
    """A residual block between two ends."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 16, 3, padding=1), Block(16, 16, 1)
        self.head = nn.Linear(16, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.block(self.stem(x).relu()).mean((2, 3)))
        return answer


class Made(NamedTuple):
    folder: Path
    net: nn.Module
    graph: onnx.GraphProto


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Small at 4 bits, exported and checked."""
    folder = tmp_path_factory.mktemp("four")
    torch.manual_seed(0)
    net = quantized(Small(), 4)
    return Made(folder, net, exported(net, folder).graph)


def test_weights_are_integers_of_their_width_and_no_float_weights_are_left(four: Made) -> None:
    weights = integer_weights(four.graph)
    assert [one.shape for one in weights] == [(16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (4, 16)]
    assert [(int(one.min()), int(one.max())) for one in weights[1:-1]] == [(-8, 7), (-8, 7)]
    assert 32 < int(np.abs(weights[0].astype(int)).max()) <= 64, "two products must fit 16 bits on every CPU"
    floats = [one for one in four.graph.initializer if one.data_type == TensorProto.FLOAT]
    assert all(len([axis for axis in one.dims if axis > 1]) <= 1 for one in floats)


def test_a_tensor_that_several_layers_read_is_rounded_once(four: Made) -> None:
    rounded = [node.input[0] for node in four.graph.node if node.op_type == "QuantizeLinear"]
    assert len(rounded) == len(set(rounded)) == 5  # inputs of stem, block, its second convolution, addition and head
    assert not any(node.op_type == "BatchNormalization" for node in four.graph.node)


def test_export_does_not_change_the_model(four: Made) -> None:
    assert sum(isinstance(layer, WeightQuantizer) for layer in four.net.modules()) == 4


def test_activations_stay_float_when_only_weights_are_quantized(tmp_path: Path) -> None:
    graph = exported(quantized(tiny(), 4, None), tmp_path).graph
    assert len(integer_weights(graph)) == 3
    assert not any(node.op_type == "QuantizeLinear" for node in graph.node)


def test_a_model_of_one_linear_layer_is_exported(tmp_path: Path) -> None:
    net = quantized(nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 4)), 8)
    assert len(integer_weights(exported(net, tmp_path).graph)) == 1


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_engines_agree_with_the_trained_model(target: str, four: Made, tmp_path: Path) -> None:
    expected = torch_logits(four.net, PREPROCESSING, IMAGES)
    candidate = backend(target).build(four.folder / "model.onnx", tmp_path, "int8", None)
    with open_engine(tmp_path, candidate, Settings(1)) as engine:
        logits = engine.infer({"image": IMAGES})["logits"]
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def test_openvino_computes_every_convolution_in_integers(four: Made) -> None:
    from toolchain.backends.openvino_graph import graph_from_onnx, import_openvino

    graph = graph_from_onnx(four.folder / "model.onnx")
    graph.reshape([1, *SHAPE])
    ran = import_openvino().Core().compile_model(graph, "CPU").get_runtime_model().get_ops()
    facts = [[str(node.get_rt_info()[key].astype(str)) for key in ("layerType", "runtimePrecision")] for node in ran]
    assert [precision for kind, precision in facts if kind == "Convolution"] == ["u8"] * 3
    assert not any(kind == "Eltwise" for kind, _ in facts)  # the addition is fused into a convolution
