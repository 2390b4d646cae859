"""A user's own ONNX file -> the graph that the back ends take: preprocessing in front of it, any batch size.

Knows graphs, not where they came from: exporters differ in names and in whether the batch size is dynamic.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ExportError
from toolchain.export.dynamic_batch import check_dynamic_batch, make_batch_dynamic
from toolchain.export.normalize import BATCH, INPUT, OUTPUT, serialize_normalized
from toolchain.models.preprocessing import offset_and_scale
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Array, Preprocessing

OLDEST_OPSET, IR_VERSION = 7, 8
NORMALIZED = "normalized_image"


def onnx_from_onnx(source: Path, preprocessing: Preprocessing, path: Path) -> Path:
    """Write `path` with input `image` uint8 [N, H, W, C] and output `logits`, from a graph whose input is float32
    [N, C, H, W] or already uint8 [N, H, W, C]. ExportError: any other input, or a batch size that cannot be made
    dynamic."""
    model = onnx.load(source)  # includes weights in files next to it
    _check_opset(model, source)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"{source}: {len(inputs)} inputs, {len(graph.output)} outputs; expected one image input, one logits output"
        )
    dtype, axes = _type_and_shape(inputs[0])
    height, width, channels = preprocessing.shape
    folded = dtype == TensorProto.UINT8 and _fits(axes, (height, width, channels))
    if not folded and not (dtype == TensorProto.FLOAT and _fits(axes, (channels, height, width))):
        raise ExportError(
            f"{source}: input '{inputs[0].name}' is {_describe(dtype, axes)}; expected float32 [N, {channels}, "
            f"{height}, {width}], or uint8 [N, {height}, {width}, {channels}] with its preprocessing in it; see [input]"
        )
    if folded and (preprocessing.mean, preprocessing.std, preprocessing.order) != ((0.0,), (1.0,), "rgb"):
        raise ExportError(
            f"{source}: its input is uint8, so the preprocessing is already in the graph; remove mean, std and order "
            "from [input], or export the graph without preprocessing"
        )
    _rename(graph, graph.output[0].name, OUTPUT)
    make_batch_dynamic(graph, axes[0])
    _rename(graph, inputs[0].name, INPUT if folded else NORMALIZED)
    if not folded:
        _prepend(graph, preprocessing)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, height, width, channels]))
    model.ir_version = max(model.ir_version, IR_VERSION)  # since version 4, initializers need not be inputs too
    content = serialize_normalized(model)
    check_dynamic_batch(content, preprocessing.shape, source)
    write_atomically(path, content)
    return path


def _prepend(graph: onnx.GraphProto, preprocessing: Preprocessing) -> None:
    offset, scale = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in offset_and_scale(preprocessing))
    constants: dict[str, Array] = {"offset": offset, "scale": scale}
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Sub", ["preprocess.offset"], {}),
        ("Mul", ["preprocess.scale"], {}),
    ]
    if preprocessing.order == "bgr":
        constants["reverse"] = np.arange(preprocessing.channels)[::-1].copy()
        steps.insert(0, ("Gather", ["preprocess.reverse"], {"axis": 3}))
    nodes, current = [], INPUT
    for number, (operation, extra, attributes) in enumerate(steps, 1):
        output = NORMALIZED if number == len(steps) else f"preprocess.{operation.lower()}.out"
        nodes.append(
            helper.make_node(operation, [current, *extra], [output], f"preprocess.{operation.lower()}", **attributes)
        )
        current = output
    later = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *later])
    graph.initializer.extend(numpy_helper.from_array(value, f"preprocess.{name}") for name, value in constants.items())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename the tensor `old` to `new` everywhere; another tensor that has the name `new` gets an underscore."""
    if old != new:
        _rename_tensors(graph, {old: new, new: f"{new}_"})


def _rename_tensors(graph: onnx.GraphProto, new_names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new_names.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_names.get(name, name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_tensors(attribute.g, new_names)


def _type_and_shape(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(axis.dim_value or None for axis in tensor.shape.dim)


def _fits(axes: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(axes) == 4 and all(have in (None, want) for have, want in zip(axes[1:], wanted, strict=True))


def _describe(dtype: int, axes: tuple[int | None, ...]) -> str:
    name = helper.tensor_dtype_to_np_dtype(dtype).name if dtype else "undefined"
    return f"{name} [{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def _check_opset(model: onnx.ModelProto, source: Path) -> None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ExportError(
            f"{source}: opset {opset}, expected {OLDEST_OPSET} or later; export it again with a newer one"
        )
