"""Users' own graphs: preprocessing in front, one output, dynamic batches, and the answers of the file itself."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models.onnx_file.drawn import GREY, HEIGHT, IMAGES, SHAPE, WIDTH, draw, opened
from toolchain.data import Split
from toolchain.errors import ExportError
from toolchain.export import check_classes, check_converted, onnx_from_onnx, ort_accuracy, ort_logits
from toolchain.models.onnx_file.runner import original_scores
from toolchain.records.tensors import Preprocessing

BYTES = Preprocessing(HEIGHT, WIDTH)


def convert(source: Path, shape: Preprocessing = SHAPE, **keys: Any) -> Path:
    """The converted graph, after its answers were found to be those of the file itself."""
    graph, path = opened(source, shape, **keys), source.with_name("converted.onnx")
    onnx_from_onnx(graph, shape, path)
    converted = onnx.load(path).graph
    assert [value.name for value in (*converted.input, *converted.output)] == ["image", "logits"]
    assert converted.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert check_converted(path, graph, shape, IMAGES[..., : shape.channels]).passed
    return path


def refusal(source: Path, shape: Preprocessing = SHAPE) -> str:
    path = source.with_name("converted.onnx")
    with pytest.raises(ExportError) as caught:
        onnx_from_onnx(opened(source, shape), shape, path)
    assert not path.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{source}: ")


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64])
def test_layouts_and_types_of_other_frameworks_answer_as_the_file_does(
    layout: str, dtype: int, order: str, tmp_path: Path
) -> None:
    """Keras-like (float NHWC), Paddle- and torch-like (float NCHW), 16 bits, and graphs that take bytes."""
    source = draw(tmp_path / "user.onnx", layout, dtype)
    bytes_in = dtype in (TensorProto.UINT8, TensorProto.INT64)
    mean, std = (BYTES.mean, BYTES.std) if bytes_in else (SHAPE.mean, SHAPE.std)
    convert(source, Preprocessing(HEIGHT, WIDTH, 3, mean, std, "bgr" if order == "bgr" else "rgb"))


def test_the_answers_of_the_file_itself_are_computed_without_the_conversion(tmp_path: Path) -> None:
    """By hand, once: what original_scores, which all else is held against, must return."""
    source = draw(tmp_path / "user.onnx", "nhwc", end=[("Softmax", {"axis": 1})])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    x = np.pad((IMAGES / 255 - SHAPE.mean) / SHAPE.std, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    conv = np.einsum("nhwckl,ockl->nohw", windows, stored["k"])
    scores = np.maximum(conv, 0).mean((2, 3)) @ stored["w"]
    shares = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.allclose(original_scores(opened(source), SHAPE, IMAGES), shares, atol=1e-5)


@pytest.mark.parametrize("layout", ["hw", "flat"])
def test_grey_images_without_an_axis_of_channels_are_taken(layout: str, tmp_path: Path) -> None:
    convert(draw(tmp_path / "user.onnx", layout), GREY)


def test_a_softmax_inside_stays_and_scores_with_axes_of_one_are_flattened(tmp_path: Path) -> None:
    end = [("Softmax", {"axis": 1}), ("Reshape", {})]
    path = convert(draw(tmp_path / "user.onnx", end=end))
    shares = ort_logits(path, IMAGES)
    assert shares.shape == (7, 5)
    assert np.allclose(shares.sum(1), 1)


def test_what_only_other_outputs_need_is_left_out(tmp_path: Path) -> None:
    """And with it an input of theirs, which nobody could feed."""
    name = helper.make_node("Mul", ["scores", "unused"], ["other"])
    outputs = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", 5]) for each in ("other", "scores")]
    source = draw(tmp_path / "user.onnx", more=(name,), outputs=outputs)
    model = onnx.load(source)
    model.graph.input.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, [1]))
    onnx.save(model, source)
    graph = onnx.load(onnx_from_onnx(opened(source, output_name="scores"), SHAPE, tmp_path / "m.onnx")).graph
    assert "Mul" not in [node.op_type for node in graph.node if not node.name.startswith("preprocess.")]


@pytest.mark.parametrize(
    "names", [("x", "y"), ("image", "logits"), ("logits", "image"), ("prepared_image", "scores"), ("k", "image")]
)
def test_any_names_are_taken(names: tuple[str, str], tmp_path: Path) -> None:
    source = draw(tmp_path / "user.onnx", names=("image" if names[0] == "k" else names[0], names[1] + ".out"))
    convert(source)
    convert(draw(tmp_path / "user.onnx", names=names) if names[0] != "k" else source)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 21])
def test_old_and_new_operator_sets_are_taken(opset: int, tmp_path: Path) -> None:
    convert(draw(tmp_path / "user.onnx", opset=opset, end=[("Softmax", {"axis": 1})]))


def reshaping(path: Path, batch: int | str, reshape: tuple[int, ...]) -> Path:
    """A graph that reshapes its images to `reshape` before a matrix product."""
    weights = np.random.default_rng(0).normal(size=(144, 5)).astype(np.float32)
    stored = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(reshape), "shape")]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])]
    graph = helper.make_graph(nodes, "g", given, made, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("batch", "reshape"), [(1, (1, -1)), (1, (1, 144)), (1, (-1, 144)), (4, (4, -1))])
def test_a_fixed_batch_size_becomes_dynamic(batch: int, reshape: tuple[int, ...], tmp_path: Path) -> None:
    path = convert(reshaping(tmp_path / "user.onnx", batch, reshape))
    assert ort_logits(path, IMAGES).shape == (7, 5)


def test_a_batch_size_that_cannot_become_dynamic_is_refused(tmp_path: Path) -> None:
    text = refusal(reshaping(tmp_path / "user.onnx", "n", (1, 144)))
    assert text.startswith("does not run with batches of 1 and 3: ")
    assert "export it with a dynamic batch" in text


def test_a_graph_that_takes_bytes_is_kept_as_it_is(tmp_path: Path) -> None:
    source = draw(tmp_path / "user.onnx", "nhwc", TensorProto.UINT8)
    kinds = [node.op_type for node in onnx.load(convert(source, BYTES)).graph.node]
    assert kinds == [node.op_type for node in onnx.load(source).graph.node]


def test_preprocessing_is_not_applied_twice(tmp_path: Path) -> None:
    text = refusal(draw(tmp_path / "user.onnx", "nhwc", TensorProto.UINT8))
    assert text.startswith("its input takes bytes, so the normalization is already in the graph; remove mean and std")


def test_a_graph_with_another_number_of_classes_than_the_data_is_refused(tmp_path: Path) -> None:
    path = convert(draw(tmp_path / "user.onnx"))
    check_classes(path, IMAGES, 5)
    with pytest.raises(ExportError, match="returns 5 classes, but the data has 4; export a model"):
        check_classes(path, IMAGES, 4)


def test_a_conversion_that_changes_the_answers_is_refused(tmp_path: Path) -> None:
    path, other = convert(draw(tmp_path / "user.onnx")), opened(draw(tmp_path / "other.onnx", "nhwc"))
    with pytest.raises(ExportError, match=r"outputs differ from other\.onnx's: image "):
        check_converted(path, other, Preprocessing(HEIGHT, WIDTH), IMAGES)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    source = draw(tmp_path / "user.onnx")
    assert convert(source).read_bytes() == convert(source).read_bytes()


def test_accuracy_of_a_users_graph_is_that_of_its_predictions(tmp_path: Path) -> None:
    source = opened(draw(tmp_path / "user.onnx", batch=2))
    predicted = original_scores(source, SHAPE, IMAGES).argmax(1)
    labels = np.where(np.arange(7) < 5, predicted, (predicted + 1) % 5).astype(np.int64)
    assert ort_accuracy(source, SHAPE, Split(IMAGES, labels, np.arange(7))) == pytest.approx(5 / 7)


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"junk")
    with pytest.raises(ExportError, match="ONNX Runtime cannot load it"):
        ort_logits(tmp_path / "model.onnx", IMAGES)
    with pytest.raises(ExportError, match="no images to compare"):
        ort_logits(convert(draw(tmp_path / "user.onnx")), IMAGES[:0])
