"""The integer layers of an OpenVINO graph, their activations on images, and what saturation would do to them.

The graph is run with its weights widened to float, so that OpenVINO computes it without integer kernels: the
activations, which FakeQuantize still rounds, are exact on every CPU.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from toolchain.backends.openvino_graph import WeightedLayer, compile_in_fp32, import_openvino, layers
from toolchain.backends.saturation.arithmetic import (
    IntegerLayer,
    SaturationMeter,
    UInt8,
    can_saturate,
    saturating_layers,
)
from toolchain.records.saturation import Saturation
from toolchain.records.tensors import Array

LEVELS = 256
PASSED_OVER = ("Reshape", "Squeeze", "Unsqueeze", "Transpose")  # between FakeQuantize and a layer: the same values


class RoundedLayer(NamedTuple):
    """A layer on integers. weighted: it in the graph; low, high: of the FakeQuantize that rounds its input."""

    weighted: WeightedLayer
    layer: IntegerLayer
    low: float
    high: float

    @property
    def source(self) -> Any:
        """The node whose output is the layer's input."""
        return self.weighted.node.input_value(0).get_node()


def predict_from_openvino(graph: Any, images: Callable[[], UInt8], names: dict[str, str]) -> Saturation:
    """graph: an openvino.Model in int8; images: uint8 [N, H, W, C], asked for only where the weights leave it open;
    names: a node's name -> the layer's name in recipes, where the graph has lost it."""
    found = quantized_layers(graph, names)
    risky = [one for one in found if can_saturate(one.layer)]
    if not risky:
        return Saturation(len(found), 0)
    meters = [SaturationMeter(one.layer) for one in risky]
    pictures = images()
    for tensors in _integer_tensors(graph, risky, pictures):
        for meter, tensor in zip(meters, tensors, strict=True):
            meter.add(tensor)
    return Saturation(len(found), len(pictures), saturating_layers(meters))


def quantized_layers(graph: Any, names: dict[str, str]) -> list[RoundedLayer]:
    """The layers whose weights are integers and whose input is rounded to 256 levels without a sign of its own."""
    found = []
    for weighted in layers(graph):
        rounding = _rounding_before(weighted.node.input_value(0).get_node())
        if not weighted.weights.get_element_type().is_integral() or rounding is None:
            continue
        low, high = (float(rounding.input_value(port).get_node().data.min()) for port in (3, 4))
        zero_point = round(-low * (LEVELS - 1) / (high - low)) if high > low else 0
        name = names.get(weighted.node.get_friendly_name(), weighted.name)
        found.append(RoundedLayer(weighted, _layer(name, weighted, zero_point), low, high))
    return found


def widen_weights(graph: Any, keep: Any = None) -> None:
    """Replace every layer's integer weights by floats of the same values, in place; `keep`: a node left as it is."""
    ops = import_openvino().opset13
    for weighted in layers(graph):
        if weighted.node.get_friendly_name() != keep:
            wide = ops.constant(_values(weighted.node.input_value(1).get_node()))
            weighted.node.input(1).replace_source_output(wide.output(0))


def _rounding_before(node: Any) -> Any:
    while node.get_type_name() in PASSED_OVER:
        node = node.input_value(0).get_node()
    is_rounding = node.get_type_name() == "FakeQuantize" and node.get_attributes()["levels"] == LEVELS
    return node if is_rounding else None


def _layer(name: str, weighted: WeightedLayer, zero_point: int) -> IntegerLayer:
    kind, options = weighted.node.get_type_name(), weighted.node.get_attributes()
    weights = np.array(weighted.weights.data, np.int8)
    if kind == "MatMul":
        rows = weights if options["transpose_b"] else weights.T
        return IntegerLayer(name, rows.reshape(rows.shape[0], -1, 1, 1), zero_point)
    groups = weights.shape[0] if kind == "GroupConvolution" else 1
    pads = (*options["pads_begin"], *options["pads_end"])
    return IntegerLayer(
        name,
        weights.reshape(-1, *weights.shape[-3:]),
        zero_point,
        groups,
        tuple(options["strides"]),
        tuple(options["dilations"]),
        pads,
    )


def _values(node: Any) -> Array:
    """The float values of a weights path: a constant, widened, shifted, scaled and reshaped."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.array(node.data, np.float32)
    operands = [_values(node.input_value(port).get_node()) for port in range(len(node.inputs()))]
    if kind == "Multiply":
        return np.asarray(operands[0] * operands[1], np.float32)
    if kind == "Subtract":
        return np.asarray(operands[0] - operands[1], np.float32)
    if kind == "Reshape":
        return operands[0].reshape(node.get_output_shape(0))
    return operands[0]


def _integer_tensors(graph: Any, found: list[RoundedLayer], images: UInt8) -> Iterator[list[UInt8]]:
    """The integers that enter each layer for each image: the number of FakeQuantize's level, 0..255."""
    openvino, copy = import_openvino(), graph.clone()
    widen_weights(copy)
    nodes = {node.get_friendly_name(): node for node in copy.get_ops()}
    outputs = [openvino.opset13.result(nodes[one.source.get_friendly_name()].output(0)) for one in found]
    open_graph = openvino.Model(outputs, copy.get_parameters())
    open_graph.reshape([1, *images.shape[1:]])
    compiled = compile_in_fp32(open_graph)
    for row in range(len(images)):
        arrays = compiled(images[row : row + 1])
        yield [_levels(arrays[port][0], one.low, one.high) for port, one in enumerate(found)]


def _levels(values: Array, low: float, high: float) -> UInt8:
    spread = (high - low) or 1.0
    return np.clip(np.rint((values - low) * ((LEVELS - 1) / spread)), 0, LEVELS - 1).astype(np.uint8)
