"""A graph of 16- or 64-bit floats -> the same in float32, the precision that every back end starts from.

Integers and Q/DQ are left alone.
"""

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")  # whose integers name a tensor's type


def convert_to_float32(model: onnx.ModelProto) -> None:
    """Weights, constants, casts, inputs and outputs of `model`, those in its branches and functions too, in place."""
    _convert_graph(model.graph)
    for function in model.functions:
        _convert_nodes(function.node)


def _convert_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]  # engines infer the types between
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in OTHER_FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    _convert_nodes(graph.node)


def _convert_nodes(nodes: "list[onnx.NodeProto]") -> None:
    for node in nodes:
        for attribute in node.attribute:
            _convert_attribute(attribute)


def _convert_attribute(attribute: AttributeProto) -> None:
    if attribute.name in TYPE_ATTRIBUTES and attribute.i in OTHER_FLOATS:
        attribute.i = TensorProto.FLOAT
    for tensor in (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors):
        _convert_tensor(tensor)
    for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
        _convert_graph(graph)


def _convert_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in OTHER_FLOATS:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
