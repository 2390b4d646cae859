"""The integer layers of an ONNX graph with Q/DQ, their activations on images, and what saturation would do to them.

ONNX Runtime runs the graph as it is written, without fusing Q/DQ and a convolution into one integer operation, so the
activations are exact on every CPU.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from toolchain.backends.graph import EXPORTER_AFFIXES
from toolchain.backends.saturation.arithmetic import (
    IntegerLayer,
    SaturationMeter,
    UInt8,
    can_saturate,
    saturating_layers,
)
from toolchain.records.saturation import Saturation
from toolchain.records.tensors import Array

SIGNED_SHIFT = 128  # x86 multiplies unsigned activations: kernels shift signed ones


class QuantizedNode(NamedTuple):
    """A convolution or linear layer on integers. activations: the name of its integer input tensor."""

    node: Any
    layer: IntegerLayer
    activations: str


def predict_from_onnx(model: Any, images: Callable[[], UInt8]) -> Saturation:
    """model: an onnx.ModelProto; images: uint8 [N, H, W, C], asked for only where the weights leave it open."""
    found = quantized_nodes(model)
    risky = [one for one in found if can_saturate(one.layer)]
    if not risky:
        return Saturation(len(found), 0)
    meters = [SaturationMeter(one.layer) for one in risky]
    pictures = images()
    for tensors in _integer_tensors(model, {one.activations for one in risky}, pictures):
        for one, meter in zip(risky, meters, strict=True):
            meter.add(tensors[one.activations][0])
    return Saturation(len(found), len(pictures), saturating_layers(meters))


def quantized_nodes(model: Any) -> list[QuantizedNode]:
    """Conv, Gemm and MatMul whose both inputs come from DequantizeLinear, the weights as constants."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        left, right = (_dequantize(makers.get(name)) for name in node.input[:2])
        if left is None or right is None or right.input[0] not in constants:
            continue
        weights = numpy_helper.to_array(constants[right.input[0]])
        if weights.dtype != np.int8:
            continue  # engines widen unsigned weights before they multiply
        zero = numpy_helper.to_array(constants[left.input[2]]) if len(left.input) > 2 else np.zeros((), np.uint8)
        point = int(zero.ravel()[0]) + (SIGNED_SHIFT if zero.dtype == np.int8 else 0)
        name = EXPORTER_AFFIXES.sub("", right.input[0])
        found.append(QuantizedNode(node, _layer(name, node, weights, point), left.input[0]))
    return found


def _dequantize(node: Any) -> Any:
    """The node itself where it is a DequantizeLinear, else None."""
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _layer(name: str, node: Any, weights: Any, zero_point: int) -> IntegerLayer:
    from onnx.helper import get_attribute_value

    options = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type != "Conv":
        rows = weights if options.get("transB") else weights.T
        return IntegerLayer(name, rows[:, :, None, None], zero_point)
    return IntegerLayer(
        name,
        weights,
        zero_point,
        int(options.get("group", 1)),
        tuple(options.get("strides", (1, 1))),
        tuple(options.get("dilations", (1, 1))),
        tuple(options.get("pads", (0, 0, 0, 0))),
    )


def _integer_tensors(model: Any, names: set[str], images: UInt8) -> Iterator[dict[str, Array]]:
    """The tensors `names` for each image, as unsigned integers."""
    import onnxruntime
    from onnx import ModelProto, ValueInfoProto

    open_model = ModelProto()
    open_model.CopyFrom(model)
    del open_model.graph.output[:]
    open_model.graph.output.extend(ValueInfoProto(name=name) for name in sorted(names))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(open_model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    image = model.graph.input[0].name
    for row in range(len(images)):
        arrays = session.run(sorted(names), {image: images[row : row + 1]})
        yield {name: _as_unsigned(array) for name, array in zip(sorted(names), arrays, strict=True)}


def _as_unsigned(array: Array) -> Array:
    return array if array.dtype == np.uint8 else (array.astype(np.int16) + SIGNED_SHIFT).astype(np.uint8)
