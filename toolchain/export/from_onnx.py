"""A user's own ONNX file -> the graph that the back ends take: preprocessing in front, logits out, any batch size.

Knows graphs, not where they came from: exporters differ in names, layout, type and in whether the batch is dynamic.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ExportError
from toolchain.export.dynamic_batch import check_dynamic_batch, make_batch_dynamic
from toolchain.export.float32 import convert_to_float32
from toolchain.export.normalize import BATCH, INPUT, OUTPUT, serialize_normalized
from toolchain.models.onnx_file.interface import ImageInput, OnnxGraph, needed_names
from toolchain.models.onnx_file.read import read_onnx
from toolchain.models.preprocessing import offset_and_scale
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Array, Preprocessing

IR_VERSION = 8
PREPARED, SCORES = "prepared_image", "scores"
NORMALIZATION = ("mean", "std")
Steps = list[tuple[str, list[str], dict[str, Any]]]


def onnx_from_onnx(source: OnnxGraph, preprocessing: Preprocessing, path: Path) -> Path:
    """Write `path` with input `image` uint8 [N, H, W, C] and output `logits` float32 [N, classes]: the scores that the
    file itself returns, whatever they mean. ExportError: a batch size that cannot be made dynamic, or normalization
    asked for in front of a graph that takes bytes."""
    _check_normalization(source, preprocessing)
    model = read_onnx(source.path)
    convert_to_float32(model)
    graph = model.graph
    _keep_output(graph, source.output.name)
    steps, constants = _input_steps(source.image, preprocessing)
    prepared, scores = PREPARED if steps else INPUT, OUTPUT if source.output.axes == 2 else SCORES
    _rename_tensors(graph, _free_names({source.image.name: prepared, source.output.name: scores}))
    make_batch_dynamic(graph, source.image.batch)
    _prepend(graph, _chain(steps, INPUT, prepared, "preprocess"), constants)
    if scores != OUTPUT:
        graph.node.extend(_chain([("Flatten", [], {"axis": 1})], scores, OUTPUT, "scores"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, source.output.classes]))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH, *preprocessing.shape]))
    model.ir_version = max(model.ir_version, IR_VERSION)  # since version 4, initializers need not be inputs too
    content = serialize_normalized(model)
    check_dynamic_batch(content, preprocessing.shape, source.path)
    write_atomically(path, content)
    return path


def _check_normalization(source: OnnxGraph, preprocessing: Preprocessing) -> None:
    plain = Preprocessing(preprocessing.height, preprocessing.width, preprocessing.channels)
    if source.image.takes_bytes and any(getattr(preprocessing, key) != getattr(plain, key) for key in NORMALIZATION):
        raise ExportError(
            f"{source.path}: its input takes bytes, so the normalization is already in the graph; remove "
            f"{' and '.join(NORMALIZATION)} from [input], or export the graph without preprocessing"
        )


def _keep_output(graph: onnx.GraphProto, name: str) -> None:
    """Remove the other outputs, and what is computed for them alone."""
    needed = needed_names(graph, name)
    nodes = [node for node in graph.node if needed.intersection(node.output)]
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    outputs = [value for value in graph.output if value.name == name]
    for kept, place in ((nodes, graph.node), (stored, graph.initializer), (outputs, graph.output)):
        copies = list(kept)
        del place[:]
        place.extend(copies)


def _input_steps(image: ImageInput, preprocessing: Preprocessing) -> tuple[Steps, dict[str, Array]]:
    """From uint8 [N, H, W, C] to what the graph takes, and the constants of it: channel order and layout while values
    are still single bytes, then type and scale. No steps at all for a graph that takes just that."""
    constants: dict[str, Array] = {}
    steps: Steps = []
    if preprocessing.order == "bgr":
        constants["reverse"] = np.arange(preprocessing.channels)[::-1].copy()
        steps.append(("Gather", ["preprocess.reverse"], {"axis": 3}))
    if image.layout == "nchw":
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    elif image.layout != "nhwc":
        height, width, _ = preprocessing.shape
        constants["shape"] = np.array([0, height, width] if image.layout == "hw" else [0, height * width])
        steps.append(("Reshape", ["preprocess.shape"], {}))
    if image.takes_bytes:
        casts: Steps = [] if image.dtype == TensorProto.UINT8 else [("Cast", [], {"to": image.dtype})]
        return steps + casts, constants
    axes = (1, -1, 1, 1) if image.layout == "nchw" else (-1,)
    offset, scale = (np.array(values, np.float32).reshape(axes) for values in offset_and_scale(preprocessing))
    steps.append(("Cast", [], {"to": TensorProto.FLOAT}))
    if offset.any():
        constants["offset"] = offset
        steps.append(("Sub", ["preprocess.offset"], {}))
    if (scale != 1).any():
        constants["scale"] = scale
        steps.append(("Mul", ["preprocess.scale"], {}))
    return steps, constants


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> None:
    later = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *later])
    graph.initializer.extend(numpy_helper.from_array(value, f"preprocess.{name}") for name, value in constants.items())


def _chain(steps: Steps, first: str, last: str, place: str) -> list[onnx.NodeProto]:
    nodes, current = [], first
    for number, (operation, extra, attributes) in enumerate(steps, 1):
        name = f"{place}.{operation.lower()}"
        output = last if number == len(steps) else f"{name}.out"
        nodes.append(helper.make_node(operation, [current, *extra], [output], name, **attributes))
        current = output
    return nodes


def _free_names(new_names: dict[str, str]) -> dict[str, str]:
    """`new_names`, and for every tensor that has one of the names of this module already, that with an underscore."""
    taken = {INPUT, OUTPUT, PREPARED, SCORES} - set(new_names)
    return {name: f"{name}_" for name in taken} | new_names


def _rename_tensors(graph: onnx.GraphProto, new_names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new_names.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_names.get(name, name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_tensors(attribute.g, new_names)
