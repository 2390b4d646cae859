"""An ONNX graph as it is stored: one file, checked, and without what differs between machines.

Exporters leave stack traces with paths in every node, so two builds of one model would differ in their bytes.
"""

from typing import Any

import onnx

from toolchain.errors import ExportError

INPUT, OUTPUT, BATCH = "image", "logits", "batch"
LIMIT_BYTES = 2 << 30  # protobuf's, and so ONNX's for one file


def serialize_normalized(model: onnx.ModelProto) -> bytes:
    """The bytes of `model` with dynamic first axes and no metadata; ExportError when ONNX's checker refuses it."""
    clean = onnx.ModelProto()
    clean.CopyFrom(model)
    _strip_metadata(clean)
    del clean.graph.value_info[:]  # engines infer shapes themselves; these contain the exporter's own symbols
    for value in (*clean.graph.input, *clean.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    if clean.ByteSize() >= LIMIT_BYTES:
        raise ExportError(f"the model is {clean.ByteSize() >> 20} MiB; an ONNX file can hold at most 2 GiB")
    try:
        onnx.checker.check_model(clean, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    return bytes(clean.SerializeToString(deterministic=True))


def _strip_metadata(model: onnx.ModelProto) -> None:
    model.doc_string = ""
    del model.metadata_props[:]
    for function in model.functions:
        _strip(function)
        _strip_nodes(function.node)
    _strip_graph(model.graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    _strip(graph)
    for value in (*graph.input, *graph.output, *graph.initializer):
        _strip(value)
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        _strip(node)
        for attribute in node.attribute:
            attribute.doc_string = ""
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                _strip_graph(graph)


def _strip(described: Any) -> None:
    described.doc_string = ""
    del described.metadata_props[:]
