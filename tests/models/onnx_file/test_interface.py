"""What is found in graphs of other makers: layout, type, batch and output; and what only the recipe can say."""

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.models.onnx_file.drawn import CLASSES, GREY, HEIGHT, WIDTH, draw, opened
from toolchain.errors import ModelError
from toolchain.records.tensors import Preprocessing


def refusal(path: Path, shape: Preprocessing | None = None, **keys: Any) -> str:
    with pytest.raises(ModelError) as caught:
        opened(path, shape, **keys) if shape else opened(path, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT32])
def test_layout_and_type_are_found_in_the_shape(layout: str, dtype: int, tmp_path: Path) -> None:
    found = opened(draw(tmp_path / "m.onnx", layout, dtype, batch=4))
    assert (found.image.name, found.image.layout, found.image.dtype) == ("in/put:0", layout, dtype)
    assert (found.image.batch, found.image.size) == (4, (HEIGHT, WIDTH))
    assert found.image.takes_bytes == (dtype in (TensorProto.UINT8, TensorProto.INT32))
    assert found.half == (dtype == TensorProto.FLOAT16)
    assert (found.output.name, found.output.classes) == ("out/put:0", CLASSES)


def test_grey_images_may_come_without_an_axis_of_channels(tmp_path: Path) -> None:
    for layout in ("hw", "flat"):
        assert opened(draw(tmp_path / "m.onnx", layout), GREY).image.layout == layout


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_layout_that_the_shape_leaves_open_is_found_in_the_first_operations(layout: str, tmp_path: Path) -> None:
    path = draw(tmp_path / "m.onnx", layout, axes=("a", "b", "c"))
    found = opened(path)
    assert (found.image.layout, found.image.size) == (layout, None)
    assert opened(path, layout=layout).image.layout == layout


def test_a_layout_that_the_graph_contradicts_is_refused(tmp_path: Path) -> None:
    text = refusal(draw(tmp_path / "m.onnx", "nhwc"), layout="nchw")
    assert text.startswith("[model] layout = \"nchw\", but its input is 'in/put:0' float32 [?, 8, 6, 3], which is nhwc")


def test_another_size_is_refused_with_what_input_would_have_to_say(tmp_path: Path) -> None:
    for layout, axes in (("nchw", (3, 9, 7)), ("nhwc", (9, 7, 3))):
        text = refusal(draw(tmp_path / "m.onnx", layout, axes=axes))
        assert text.startswith("input 'in/put:0' float32 [?, ")
        assert "expected float32, float16 or uint8 [N, 3, 8, 6] or [N, 8, 6, 3], as [input] has it" in text
        assert text.endswith("set height = 9, width = 7, channels = 3 there")


def test_the_one_output_with_classes_is_taken_and_another_can_be_named(tmp_path: Path) -> None:
    softmax = helper.make_node("Softmax", ["scores"], ["prob"], axis=1)
    top = helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["n", CLASSES]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES]),
    ]
    path = draw(tmp_path / "m.onnx", more=(softmax, top), outputs=outputs[:2])
    found = opened(path)
    assert (found.output.name, found.outputs) == ("prob", 2)
    assert "output 'prob', of 2 outputs" in found.describe()
    both = draw(tmp_path / "both.onnx", more=(softmax, top), outputs=outputs)
    assert opened(both).output.name == "scores"  # the other one is its softmax
    assert opened(both, output_name="prob").output.name == "prob"
    assert "no output 'probs'; did you mean prob? It has: label, prob, scores" in refusal(both, output_name="probs")
    assert "output 'label' int64 [?]; expected classes" in refusal(both, output_name="label")


def test_several_outputs_of_which_none_stands_out_are_listed(tmp_path: Path) -> None:
    age = helper.make_node("Abs", ["scores"], ["age"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CLASSES]) for name in ("scores", "age")]
    text = refusal(draw(tmp_path / "m.onnx", more=(age,), outputs=outputs))
    assert text.startswith("2 outputs, 'scores' float32 [?, 5], 'age' float32 [?, 5]; expected one with classes")
    assert text.endswith('name it: [model] output_name = "scores"')


def test_an_output_of_other_axes_is_no_classifier(tmp_path: Path) -> None:
    shape = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["n", 4, 2, 2])
    text = refusal(draw(tmp_path / "m.onnx", outputs=[shape]))
    assert text == "output 'mean' float32 [?, 4, 2, 2]; expected classes: float [N, classes]"


def test_what_is_found_is_said_in_one_line(tmp_path: Path) -> None:
    assert opened(draw(tmp_path / "m.onnx", "nhwc", TensorProto.FLOAT16, batch=1)).describe() == (
        "m.onnx: input 'in/put:0' float16 NHWC, batch fixed at 1, made dynamic; output 'out/put:0'; opset 17, 16-bit "
        "floats widened to 32"
    )
