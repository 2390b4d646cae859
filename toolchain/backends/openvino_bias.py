"""Bias correction of an int8 OpenVINO graph: what rounding adds to a layer's outputs on average is taken off its bias.

Reference: Nagel et al. 2019, Data-free quantization, section 4.2; here with images. Each layer's mean error is measured
on the float model's own activations, all layers in one pass. NNCF's fast correction sends the channels' means through
the layer instead of activations: a mean has a rounding error of its own, which no average takes away, and ResNet-20's
logits are farther from the model's with it than without any correction (docs/decisions/0024).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from toolchain.backends.openvino_graph import WeightedLayer, compile_in_fp32, import_openvino, layers
from toolchain.backends.saturation.from_openvino import widen_weights
from toolchain.progress import track
from toolchain.records.tensors import Array


class BiasedLayer(NamedTuple):
    """A layer with integer weights and a bias. add: the node that adds the bias; port: the input of `add` that is its
    constant."""

    name: str
    weighted: WeightedLayer
    add: Any
    port: int


def correct_biases(quantized: Any, graph: Any, images: Array) -> None:
    """Correct the biases of `quantized`, an int8 openvino.Model made from `graph`, in place.

    images: uint8 [N, H, W, C]. Layers in float and those without a bias stay as they are."""
    corrected = list(biased_layers(quantized))
    for layer, error in zip(corrected, _mean_errors(quantized, graph, images), strict=True):
        node = layer.add.input_value(layer.port).get_node()
        bias = np.array(node.data, np.float32)
        shape = [-1, *[1] * _trailing_axes(layer.weighted.node)]
        shifted = import_openvino().opset13.constant(bias - error.reshape(shape), name=node.get_friendly_name())
        layer.add.input(layer.port).replace_source_output(shifted.output(0))


def biased_layers(graph: Any) -> Iterator[BiasedLayer]:
    """In the graph's order."""
    for weighted in layers(graph):
        readers = list(weighted.node.output(0).get_target_inputs())
        if not weighted.weights.get_element_type().is_integral() or len(readers) != 1:
            continue
        add = readers[0].get_node()
        port = 1 - readers[0].get_index()
        if add.get_type_name() == "Add" and add.input_value(port).get_node().get_type_name() == "Constant":
            yield BiasedLayer(weighted.node.get_friendly_name(), weighted, add, port)


def _mean_errors(quantized: Any, graph: Any, images: Array) -> list[Array]:
    """[channels] of each of the biased layers: how far its outputs are above the float layer's, on average over images
    and places, when both get the float model's activations and only one rounds."""
    openvino, copy = import_openvino(), quantized.clone()
    errors = _compare_layers(copy, {layer.node.get_friendly_name(): layer for layer in layers(graph)})
    if not errors:
        return []
    model = openvino.Model([openvino.opset13.result(error) for error in errors], copy.get_parameters())
    model.reshape([1, *images.shape[1:]])
    compiled = compile_in_fp32(model)
    sums = [np.zeros(1, np.float64)] * len(errors)
    for row in track(range(len(images)), "quantize: bias correction", len(images)):
        found = compiled(images[row : row + 1])
        sums = [total + found[port] for port, total in enumerate(sums)]
    return [np.asarray(total / len(images), np.float32) for total in sums]


def _compare_layers(quantized: Any, floats: dict[str, WeightedLayer]) -> list[Any]:
    """Make `quantized` the float graph again, in place, and give each biased layer a twin that rounds; the outputs that
    are the twins' mean errors."""
    ops, compared = import_openvino().opset13, list(biased_layers(quantized))
    widen_weights(quantized)
    twins = {layer.name: _twin(layer.weighted.node) for layer in compared}
    for weighted in layers(quantized):
        original = floats[weighted.node.get_friendly_name()].weights
        weights = ops.constant(np.array(original.data, np.float32))
        weighted.node.input(1).replace_source_output(weights.output(0))
    _skip_rounding(quantized, {twin.get_friendly_name() for twin in twins.values()})
    return [_mean_difference(twins[layer.name], layer.weighted.node) for layer in compared]


def _twin(node: Any) -> Any:
    """A second node that computes the same of the same inputs."""
    ops, options = import_openvino().opset13, node.get_attributes()
    inputs = node.input_value(0), node.input_value(1)
    if node.get_type_name() == "MatMul":
        return ops.matmul(*inputs, options["transpose_a"], options["transpose_b"])
    make = ops.group_convolution if node.get_type_name() == "GroupConvolution" else ops.convolution
    places = [list(options[name]) for name in ("strides", "pads_begin", "pads_end", "dilations")]
    return make(*inputs, *places, options["auto_pad"])


def _skip_rounding(graph: Any, twins: set[str]) -> None:
    """Everything but the twins reads activations before they are rounded."""
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            for reader in node.output(0).get_target_inputs():
                if reader.get_node().get_friendly_name() not in twins:
                    reader.replace_source_output(node.input_value(0))


def _mean_difference(rounded: Any, exact: Any) -> Any:
    """An output, [channels]: the mean of rounded - exact over all other axes."""
    ops, rank = import_openvino().opset13, exact.output(0).get_partial_shape().rank.get_length()
    others = [axis for axis in range(rank) if axis != rank - 1 - _trailing_axes(exact)]
    difference = ops.subtract(rounded.output(0), exact.output(0))
    return ops.reduce_mean(difference, ops.constant(np.array(others, np.int64)), False).output(0)


def _trailing_axes(node: Any) -> int:
    """How many axes follow that of the output channels: the places of a convolution."""
    return 0 if node.get_type_name() == "MatMul" else int(node.output(0).get_partial_shape().rank.get_length()) - 2
