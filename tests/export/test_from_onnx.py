"""Users' own graphs, built by hand: preprocessing in front of them, dynamic batches, and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from toolchain.data import Split
from toolchain.errors import ExportError
from toolchain.export import check_classes, onnx_from_onnx, ort_accuracy, ort_logits
from toolchain.models.preprocessing import normalize_images
from toolchain.records.tensors import Preprocessing

SHAPE = Preprocessing(4, 6, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
WEIGHTS = np.random.default_rng(0).normal(size=(72, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (7, 4, 6, 3), np.uint8)


def graph(
    path: Path,
    axes: tuple[int | str, ...] = ("n", 3, 4, 6),
    kind: int = TensorProto.FLOAT,
    reshape: tuple[int, ...] = (0, -1),
    names: tuple[str, str] = ("x", "y"),
    opset: int = 17,
) -> Path:
    """(cast ->) reshape -> matrix product: logits [N, 5]."""
    x, y = names
    nodes = [helper.make_node("Reshape", ["f", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], [y])]
    nodes.insert(0, helper.make_node("Cast", [x], ["f"], to=TensorProto.FLOAT))
    stored = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.array(reshape), "shape")]
    inputs = [helper.make_tensor_value_info(x, kind, axes)]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [axes[0], 5])]
    built = helper.make_graph(nodes, "g", inputs, outputs, stored)
    onnx.save(helper.make_model(built, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def refusal(tmp_path: Path, shape: Preprocessing = SHAPE, **options: Any) -> str:
    source, path = graph(tmp_path / "user.onnx", **options), tmp_path / "model.onnx"
    with pytest.raises(ExportError) as caught:
        onnx_from_onnx(source, shape, path)
    assert not path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{source}: ")


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("names", [("x", "y"), ("image", "logits"), ("logits", "image"), ("normalized_image", "flat_")])
def test_preprocessing_is_prepended_whatever_the_names(names: tuple[str, str], order: str, tmp_path: Path) -> None:
    shape = Preprocessing(4, 6, 3, SHAPE.mean, SHAPE.std, order)
    path = onnx_from_onnx(graph(tmp_path / "user.onnx", names=names), shape, tmp_path / "model.onnx")
    model = onnx.load(path).graph
    assert [value.name for value in (*model.input, *model.output)] == ["image", "logits"]
    expected = normalize_images(torch.from_numpy(IMAGES), shape).numpy().reshape(7, 72) @ WEIGHTS
    assert np.allclose(ort_logits(path, IMAGES, (1, 2, 4)), expected, atol=1e-4)


@pytest.mark.parametrize("reshape", [(1, -1), (1, 72), (-1, 72)])
def test_a_fixed_batch_size_becomes_dynamic(reshape: tuple[int, ...], tmp_path: Path) -> None:
    source = graph(tmp_path / "user.onnx", axes=(1, 3, 4, 6), reshape=reshape)
    path = onnx_from_onnx(source, SHAPE, tmp_path / "model.onnx")
    assert ort_logits(path, IMAGES).shape == (7, 5)


def test_a_batch_size_that_cannot_become_dynamic_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, axes=("n", 3, 4, 6), reshape=(1, 72))
    assert text.startswith("does not run with batches of 1 and 3: ")
    assert "export it with a dynamic batch" in text


def test_a_graph_with_uint8_input_is_kept_as_it_is(tmp_path: Path) -> None:
    source = graph(tmp_path / "user.onnx", axes=(1, 4, 6, 3), kind=TensorProto.UINT8)
    path = onnx_from_onnx(source, Preprocessing(4, 6), tmp_path / "model.onnx")
    assert "Transpose" not in [node.op_type for node in onnx.load(path).graph.node]
    assert np.allclose(ort_logits(path, IMAGES), IMAGES.reshape(7, 72).astype(np.float32) @ WEIGHTS, rtol=1e-4)


def test_preprocessing_is_not_applied_twice(tmp_path: Path) -> None:
    for shape in (SHAPE, Preprocessing(4, 6, order="bgr")):
        text = refusal(tmp_path, shape, axes=(1, 4, 6, 3), kind=TensorProto.UINT8)
        assert text.startswith(
            "its input is uint8, so the preprocessing is already in the graph; remove mean, std and order"
        )


def test_a_graph_with_another_number_of_classes_than_the_data_is_refused(tmp_path: Path) -> None:
    path = onnx_from_onnx(graph(tmp_path / "user.onnx"), SHAPE, tmp_path / "model.onnx")
    check_classes(path, IMAGES, 5)
    with pytest.raises(ExportError, match="returns 5 classes, but the data has 4; export a model"):
        check_classes(path, IMAGES, 4)


def test_other_inputs_are_refused_with_what_was_expected(tmp_path: Path) -> None:
    expected = "expected float32 [N, 3, 4, 6], or uint8 [N, 4, 6, 3]"
    assert refusal(tmp_path, axes=("n", 4, 6, 3)).startswith(f"input 'x' is float32 [?, 4, 6, 3]; {expected}")
    assert "input 'x' is float16" in refusal(tmp_path, kind=TensorProto.FLOAT16)
    assert "input 'x' is float32 [?, 3, 8, 6]" in refusal(tmp_path, axes=("n", 3, 8, 6))
    assert "opset 6, expected 7 or later" in refusal(tmp_path, opset=6)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    source = graph(tmp_path / "user.onnx")
    first = onnx_from_onnx(source, SHAPE, tmp_path / "a.onnx").read_bytes()
    assert onnx_from_onnx(source, SHAPE, tmp_path / "b.onnx").read_bytes() == first


def test_accuracy_of_a_users_graph_is_that_of_its_predictions(tmp_path: Path) -> None:
    source = graph(tmp_path / "user.onnx")
    predicted = ort_logits(onnx_from_onnx(source, SHAPE, tmp_path / "model.onnx"), IMAGES).argmax(1)
    labels = np.where(np.arange(7) < 5, predicted, (predicted + 1) % 5).astype(np.int64)
    assert ort_accuracy(source, SHAPE, Split(IMAGES, labels, np.arange(7))) == pytest.approx(5 / 7)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load it"):
        ort_logits(tmp_path / "model.onnx", IMAGES)
    with pytest.raises(ExportError, match="no images to compare"):
        ort_logits(onnx_from_onnx(graph(tmp_path / "u.onnx"), SHAPE, tmp_path / "m.onnx"), IMAGES[:0])
