"""What a user's ONNX graph takes and returns: layout and type of its image input, and which output holds the classes.

Found from shapes, types and nodes. [model] layout and output_name decide only what the graph leaves open; what the
recipe alone can know (mean, std, channel order) is never guessed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto, helper

from toolchain.errors import ModelError
from toolchain.models.onnx_file.read import read_onnx, standard_opset
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

Layout = Literal["nchw", "nhwc", "hw", "flat"]  # hw: grey without an axis of channels; flat: grey as one row
Axes = tuple[int | None, ...]
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
INTEGERS = (TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
MAKES_LAYOUT: dict[tuple[int, ...], Layout] = {(0, 3, 1, 2): "nhwc", (0, 2, 3, 1): "nchw"}  # a first Transpose
PASSED = ("Identity", "Cast", "Sub", "Add", "Mul", "Div", "Clip", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class ImageInput:
    """dtype: TensorProto's; batch: the fixed batch size, size: the fixed height and width; None when dynamic."""

    name: str
    dtype: int
    layout: Layout
    batch: int | None
    size: tuple[int, int] | None

    @property
    def takes_bytes(self) -> bool:
        """Whether it takes pixel values 0..255 as integers, so that normalization is the graph's own business."""
        return self.dtype in INTEGERS


@dataclass(frozen=True)
class ClassOutput:
    """axes: their number, None where not even that is known; classes: its width, None when the graph leaves it open."""

    name: str
    axes: int | None
    classes: int | None


@dataclass(frozen=True)
class OnnxGraph:
    """A user's ONNX file and what was found in it. outputs: how many it has; half: it computes at 16 bits."""

    path: Path
    image: ImageInput
    output: ClassOutput
    outputs: int
    opset: int
    half: bool

    def describe(self) -> str:
        """In one line, for a person."""
        image, batch = self.image, self.image.batch
        dtype = helper.tensor_dtype_to_np_dtype(image.dtype).name
        fixed = "dynamic batch" if batch is None else f"batch fixed at {batch}, made dynamic"
        bytes_in = ", which takes bytes as they are" if image.takes_bytes else ""
        several = f", of {self.outputs} outputs" if self.outputs > 1 else ""
        return (
            f"{self.path.name}: input '{image.name}' {dtype} {image.layout.upper()}{bytes_in}, {fixed}; output "
            f"'{self.output.name}'{several}; opset {self.opset}{', 16-bit floats widened to 32' if self.half else ''}"
        )


def open_onnx(path: Path, spec: ModelSpec, shape: Preprocessing) -> OnnxGraph:
    """The graph in `path` as [model] and [input] describe it; ModelError where they do not fit it, or leave it open."""
    model = read_onnx(path)
    output = _find_output(model, path, spec)
    image = _find_image(model.graph, output.name, path, spec, shape)
    tensors = (*model.graph.initializer, *(value.type.tensor_type for value in model.graph.input))
    types = {getattr(each, "data_type", None) or getattr(each, "elem_type", None) for each in tensors}
    outputs = len(model.graph.output)
    return OnnxGraph(path, image, output, outputs, standard_opset(model), bool(types & {*HALF}))


def needed_names(graph: onnx.GraphProto, output: str) -> set[str]:
    """Every tensor that `output` is computed from, itself included."""
    needed = {output}
    for node in reversed(graph.node):  # nodes are sorted: what is computed comes before what uses it
        if needed.intersection(node.output):
            needed.update(_inputs_of(node))
    return needed


def type_and_axes(value: onnx.ValueInfoProto) -> tuple[int, Axes | None]:
    """Type and axes of a tensor, None for a dynamic axis; no axes at all where not even their number is known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(axis.dim_value if axis.dim_value > 0 else None for axis in tensor.shape.dim)


def describe_tensor(value: onnx.ValueInfoProto) -> str:
    """`'x' float32 [?, 3, 8, 6]`."""
    dtype, axes = type_and_axes(value)
    name = helper.tensor_dtype_to_np_dtype(dtype).name if dtype else "undefined"
    shown = (
        "of unknown shape" if axes is None else f"[{', '.join('?' if axis is None else str(axis) for axis in axes)}]"
    )
    return f"'{value.name}' {name} {shown}"


def _inputs_of(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node uses, those that its branches and loop bodies take from outside too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            yield from (value.name for value in inner.output)
            for each in inner.node:
                yield from _inputs_of(each)


def _find_output(model: onnx.ModelProto, path: Path, spec: ModelSpec) -> ClassOutput:
    outputs = list(_with_shapes(model))
    if spec.output_name is not None:
        return _named_output(outputs, path, spec.output_name)
    if len(outputs) == 1:
        return _class_output(outputs[0], path)
    fitting = [value for value in outputs if _classes_of(value) is not None]
    if len(fitting) > 1:
        fitting = _without_activated(model.graph, fitting)
    if len(fitting) == 1:
        return _class_output(fitting[0], path)
    there = ", ".join(map(describe_tensor, outputs))
    raise ModelError(
        f"{path}: {len(outputs)} outputs, {there}; expected one with classes [N, classes]; name it: "
        f'[model] output_name = "{(fitting or outputs)[0].name}"'
    )


def _with_shapes(model: onnx.ModelProto) -> Iterable[onnx.ValueInfoProto]:
    """The outputs; where their shapes are not written down, as ONNX infers them."""
    if all(type_and_axes(value)[1] is not None for value in model.graph.output):
        return tuple(model.graph.output)
    return tuple(onnx.shape_inference.infer_shapes(model).graph.output)


def _named_output(outputs: list[onnx.ValueInfoProto], path: Path, name: str) -> ClassOutput:
    names = [value.name for value in outputs]
    if name not in names:
        near = get_close_matches(name, names, 1)
        raise ModelError(
            f"{path}: no output '{name}'{f'; did you mean {near[0]}?' if near else '.'} It has: {', '.join(names)}; "
            "see [model] output_name"
        )
    return _class_output(outputs[names.index(name)], path)


def _class_output(value: onnx.ValueInfoProto, path: Path) -> ClassOutput:
    width = _classes_of(value)
    if width is None:
        raise ModelError(f"{path}: output {describe_tensor(value)}; expected classes: float [N, classes]")
    axes = type_and_axes(value)[1]
    return ClassOutput(value.name, None if axes is None else len(axes), width or None)


def _classes_of(value: onnx.ValueInfoProto) -> int | None:
    """The width of [N, classes], [N, classes, 1, 1] or [N, 1, 1, classes]; 0 where it is open; None: no classes."""
    dtype, axes = type_and_axes(value)
    if dtype not in (*FLOATS, TensorProto.BFLOAT16):
        return None
    if axes is None:
        return 0
    if len(axes) < 2:
        return None
    wide = [axis for axis in axes[1:] if axis != 1]
    return None if len(wide) > 1 else (wide[0] or 0) if wide else 1


def _without_activated(graph: onnx.GraphProto, values: list[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """`values` without those that are only another one's softmax or sigmoid, or a copy of it."""
    names = {value.name for value in values}
    made = {name: node for node in graph.node for name in node.output}
    derived = {
        value.name
        for value in values
        if (node := made.get(value.name)) is not None
        and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid", "Identity")
        and node.input[0] in names
    }
    return [value for value in values if value.name not in derived]


def _find_image(graph: onnx.GraphProto, output: str, path: Path, spec: ModelSpec, shape: Preprocessing) -> ImageInput:
    stored, needed = {tensor.name for tensor in graph.initializer}, needed_names(graph, output)
    inputs = [value for value in graph.input if value.name not in stored and value.name in needed]
    if len(inputs) != 1:
        there = ", ".join(map(describe_tensor, inputs)) or "none"
        raise ModelError(
            f"{path}: output '{output}' needs {len(inputs)} inputs ({there}); expected one, the image: export it with "
            "the others as constants"
        )
    (value,) = inputs
    dtype, axes = type_and_axes(value)
    if dtype not in (*FLOATS, *INTEGERS) or axes is None:
        raise ModelError(f"{path}: input {describe_tensor(value)}; expected {_wanted(shape)}")
    layout = _find_layout(graph, value, path, spec, shape)
    height, width = axes[2:] if layout == "nchw" else axes[1:3] if layout != "flat" else (shape.height, shape.width)
    size = None if height is None or width is None else (height, width)
    return ImageInput(value.name, dtype, layout, axes[0], size)


def _find_layout(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, path: Path, spec: ModelSpec, shape: Preprocessing
) -> Layout:
    axes = type_and_axes(value)[1] or ()
    layouts = _layouts(shape)
    fitting = [name for name, wanted in layouts.items() if _fits(axes[1:], wanted)]
    if not fitting:
        raise ModelError(
            f"{path}: input {describe_tensor(value)}; expected {_wanted(shape)}, as [input] has it{_size_hint(axes)}"
        )
    if spec.layout is not None and spec.layout not in fitting:
        raise ModelError(
            f'{path}: [model] layout = "{spec.layout}", but its input is {describe_tensor(value)}, which is '
            f"{' or '.join(fitting)}; remove the key"
        )
    if spec.layout is not None or len(fitting) == 1:
        return spec.layout or fitting[0]
    used = _layout_of_use(graph, value.name)
    if used not in fitting:
        raise ModelError(
            f"{path}: input {describe_tensor(value)} may be {' or '.join(fitting)}; say which: "
            f'[model] layout = "{fitting[0]}"'
        )
    return used


def _layout_of_use(graph: onnx.GraphProto, name: str) -> Layout | None:
    """What the first operation that depends on the layout expects."""
    for node in graph.node:
        if name not in node.input[:2]:
            continue
        if node.op_type in PASSED:
            return _layout_of_use(graph, node.output[0])
        if node.op_type in ("Conv", "QLinearConv", "MaxPool", "AveragePool", "BatchNormalization"):
            return "nchw"
        if node.op_type == "Transpose":
            return MAKES_LAYOUT.get(tuple(node.attribute[0].ints) if node.attribute else ())
    return None


def _layouts(shape: Preprocessing) -> dict[Layout, tuple[int, ...]]:
    height, width, channels = shape.shape
    layouts: dict[Layout, tuple[int, ...]] = {"nchw": (channels, height, width), "nhwc": (height, width, channels)}
    return layouts | {"hw": (height, width), "flat": (height * width,)} if channels == 1 else layouts


def _fits(axes: Axes, wanted: tuple[int, ...]) -> bool:
    return len(axes) == len(wanted) and all(have in (None, want) for have, want in zip(axes, wanted, strict=True))


def _wanted(shape: Preprocessing) -> str:
    shown = " or ".join(f"[N, {', '.join(map(str, axes))}]" for axes in _layouts(shape).values())
    return f"float32, float16 or uint8 {shown}"


def _size_hint(axes: Axes) -> str:
    """What [input] would have to say for these axes; '' where they are no image's."""
    if len(axes) != 4:
        return ""
    image = axes[2:] + axes[1:2] if axes[1] in (1, 3) else axes[1:]
    if None in image or image[2] not in (1, 3):
        return ""
    height, width, channels = image
    return f"; set height = {height}, width = {width}, channels = {channels} there"
