"""A user's own ONNX file -> the graph that the back ends take: preprocessing put before it, any batch size.

Knows graphs, not where they came from: exporters differ in names and in whether the batch is free.
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
    """Write `path`: input `image` uint8 [N, H, W, C], output `logits`, of a graph that takes float32 [N, C, H, W] with
    any name, or uint8 [N, H, W, C] already. ExportError for any other input, or a batch size that cannot be freed."""
    model = onnx.load(source)  # weights in files beside it are drawn in
    _check_opset(model, source)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"{source}: {len(inputs)} inputs, {len(graph.output)} outputs; expected one picture in, logits out"
        )
    kind, axes = _type_and_shape(inputs[0])
    height, width, channels = preprocessing.shape
    folded = kind == TensorProto.UINT8 and _fits(axes, (height, width, channels))
    if not folded and not (kind == TensorProto.FLOAT and _fits(axes, (channels, height, width))):
        raise ExportError(
            f"{source}: input '{inputs[0].name}' is {_describe(kind, axes)}; expected float32 [N, {channels}, "
            f"{height}, {width}], or uint8 [N, {height}, {width}, {channels}] with the preprocessing in it; see [input]"
        )
    if folded and (preprocessing.mean, preprocessing.std, preprocessing.order) != ((0.0,), (1.0,), "rgb"):
        raise ExportError(
            f"{source}: takes bytes, so its preprocessing is in the graph already; take mean, std and order out of "
            "[input], or export the graph without it"
        )
    _rename(graph, graph.output[0].name, OUTPUT)
    make_batch_dynamic(graph, axes[0])
    _rename(graph, inputs[0].name, INPUT if folded else NORMALIZED)
    if not folded:
        _prepend(graph, preprocessing)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, height, width, channels]))
    model.ir_version = max(model.ir_version, IR_VERSION)  # since 4, initializers need not be inputs too
    content = serialize_normalized(model)
    check_dynamic_batch(content, preprocessing.shape, source)
    write_atomically(path, content)
    return path


def _prepend(graph: onnx.GraphProto, preprocessing: Preprocessing) -> None:
    offset, scale = (np.array(one, np.float32).reshape(1, -1, 1, 1) for one in offset_and_scale(preprocessing))
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
        made = NORMALIZED if number == len(steps) else f"preprocess.{operation.lower()}.out"
        nodes.append(
            helper.make_node(operation, [current, *extra], [made], f"preprocess.{operation.lower()}", **attributes)
        )
        current = made
    later = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *later])
    graph.initializer.extend(numpy_helper.from_array(value, f"preprocess.{name}") for name, value in constants.items())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give the tensor `old` the name `new` everywhere; whatever else bears `new` gets an underscore."""
    if old == new:
        return
    swap = {old: new, new: f"{new}_"}
    _rename_tensors(graph, swap)


def _rename_tensors(graph: onnx.GraphProto, swap: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = swap.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [swap.get(name, name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_tensors(attribute.g, swap)


def _type_and_shape(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(axis.dim_value or None for axis in tensor.shape.dim)


def _fits(axes: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    return len(axes) == 4 and all(have in (None, want) for have, want in zip(axes[1:], wanted, strict=True))


def _describe(kind: int, axes: tuple[int | None, ...]) -> str:
    name = helper.tensor_dtype_to_np_dtype(kind).name if kind else "undefined"
    return f"{name} [{', '.join('?' if axis is None else str(axis) for axis in axes)}]"


def _check_opset(model: onnx.ModelProto, source: Path) -> None:
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise ExportError(
            f"{source}: opset {opset}, expected {OLDEST_OPSET} or later; export it again with a newer one"
        )
