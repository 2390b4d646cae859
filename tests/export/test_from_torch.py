"""Real exports, run by ONNX Runtime and compared with torch."""

import inspect
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn
from torchvision import models

from tests.export import nets
from toolchain.errors import ExportError
from toolchain.export import check_onnx, onnx_from_torch, ort_logits, torch_logits
from toolchain.records.tensors import Preprocessing

SHAPE = Preprocessing(12, 20, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def images(preprocessing: Preprocessing, count: int = 45) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *preprocessing.shape), np.uint8)


def line_of(net: type, code: str) -> int:
    lines, first = inspect.getsourcelines(net)
    return first + next(number for number, line in enumerate(lines) if code in line)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_from_torch(nets.Small().train(), SHAPE, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_the_graph_takes_bytes_and_returns_logits_for_any_batch(exported: Path) -> None:
    graph = onnx.load(exported).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert types == {"image": onnx.TensorProto.UINT8, "logits": onnx.TensorProto.FLOAT}
    axes = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 12, 20, 3]
    assert ort_logits(exported, images(SHAPE), tuple(range(1, 10))).shape == (45, 4)
    assert ort_logits(exported, images(SHAPE, 32)).shape == (32, 4)


def test_batchnorm_is_folded_into_the_convolution(exported: Path) -> None:
    operations = [node.op_type for node in onnx.load(exported).graph.node]
    assert "BatchNormalization" not in operations
    assert operations.count("Conv") == 1


def test_the_model_is_left_in_its_own_mode(tmp_path: Path) -> None:
    module = nets.Small().train()
    module.norm.eval()
    torch_logits(module, SHAPE, images(SHAPE, 2))
    onnx_from_torch(module, SHAPE, tmp_path / "model.onnx")
    assert (module.training, module.norm.training) == (True, False)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_onnx_runtime_agrees_with_torch(order: str, tmp_path: Path) -> None:
    shape, module = Preprocessing(12, 20, 3, (0.5, 0.4, 0.3), (0.2,), order), nets.Small().eval()
    path = onnx_from_torch(module, shape, tmp_path / "model.onnx")
    record = check_onnx(path, module, shape, images(shape))
    assert record.passed
    assert record.relative < 1e-5
    assert record.top1_agreement == 1.0
    assert record.images == 45


def test_a_model_for_grey_images_is_exported(tmp_path: Path) -> None:
    shape, module = Preprocessing(28, 28, 1), nets.Small(1, 7).eval()
    path = onnx_from_torch(module, shape, tmp_path / "model.onnx")
    assert check_onnx(path, module, shape, images(shape)).passed


def test_the_same_model_gives_the_same_bytes_without_paths(tmp_path: Path) -> None:
    module = nets.Small().eval()
    first = onnx_from_torch(module, SHAPE, tmp_path / "a.onnx").read_bytes()
    assert onnx_from_torch(module, SHAPE, tmp_path / "b" / "c.onnx").read_bytes() == first
    assert b".py" not in first
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c.onnx"]


@pytest.mark.slow
def test_a_torchvision_model_is_exported(tmp_path: Path) -> None:
    shape, module = Preprocessing(64, 64, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), models.resnet18().eval()
    path = onnx_from_torch(module, shape, tmp_path / "model.onnx")
    operations = {node.op_type for node in onnx.load(path).graph.node}
    plain = {"Transpose", "Cast", "Sub", "Mul", "Conv", "Relu", "MaxPool", "Add", "ReduceMean", "Reshape", "Gemm"}
    assert operations <= plain
    assert check_onnx(path, module, shape, images(shape, 9)).passed


def test_the_exporter_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx_from_torch(nets.Small().eval(), SHAPE, tmp_path / "model.onnx")
    with pytest.raises(ExportError):
        onnx_from_torch(nets.Branches().eval(), SHAPE, tmp_path / "no.onnx")
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "no.onnx").exists()


@pytest.mark.parametrize(
    ("net", "code", "message"),
    [
        (nets.Branches, "if x.sum()", "`if x.sum() > 0:`: the model cannot be exported: control flow that depends on"),
        (nets.Bessel, "bessel_j0", r"the model cannot be exported: operation \w+\.bessel_j0 has no ONNX equivalent"),
        (nets.LeavesTorch, "from_numpy", "the model cannot be exported: RuntimeError: .numpy()"),
    ],
)
def test_an_operation_that_cannot_be_exported_is_named_with_its_line(
    net: type[nn.Module], code: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as caught:
        onnx_from_torch(net().eval(), SHAPE, tmp_path / "model.onnx")
    text = str(caught.value)
    assert text.startswith(f"{nets.__file__}:{line_of(net, code)}: ")
    assert re.search(message if "\\w" in message else re.escape(message), text)
    assert "\n" not in text


def test_a_batch_size_fixed_in_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="it works for one batch size only"):
        onnx_from_torch(nets.FixedBatch().eval(), SHAPE, tmp_path / "model.onnx")


def test_the_worst_image_is_named_when_outputs_differ(tmp_path: Path) -> None:
    module = nets.Noisy().eval()
    path = onnx_from_torch(module, SHAPE, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"outputs differ from torch's: image \d+ is off by"):
        check_onnx(path, module, SHAPE, images(SHAPE, 8))
