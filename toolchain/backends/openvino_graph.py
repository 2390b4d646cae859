"""An ONNX file as an OpenVINO graph: its layers by the names that recipes use, and rounding of their weights.

Knows nothing of calibration, files or engines. A layer is named after the torch module with its weights
(`stages.0.1.conv2`), which the exporter keeps in the constant's name. Reference: OpenVINO, Model representation.
"""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolchain.backends.graph import EXPORTER_AFFIXES, check_patterns
from toolchain.backends.rounding import Rounding, round_to_bits
from toolchain.errors import BackendError

COUNTER_NAME = re.compile(r"[A-Z]\w*_\d+(\.\d+)?")  # `Concat_374`, `Split_37.0`; folding passes such names on
KINDS = ("Convolution", "GroupConvolution", "MatMul")
END_BITS = 8
WEIGHT_PATH_KINDS = (
    "Multiply",
    "Subtract",
    "Convert",
    "Reshape",
    "FakeQuantize",
)  # between a layer and its weights' constant


class WeightedLayer(NamedTuple):
    """node: an operation of KINDS; weights: the constant behind its second input."""

    name: str
    node: Any
    weights: Any


def import_openvino() -> Any:
    """The openvino package, imported without its telemetry, which would report the import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes its import fail
    import openvino

    return openvino


def compile_in_fp32(graph: Any) -> Any:
    """For the CPU, with all that is not integers in fp32, whatever this CPU would choose."""
    return import_openvino().Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def graph_from_onnx(onnx: Path) -> Any:
    """An openvino.Model of `onnx`, its constants folded; BackendError in one line.

    Without folding, each bias is behind a chain of shape operations: NNCF finds none to correct, and int8 with a
    dynamic batch gave wrong outputs (docs/decisions/0006). Integer weights stay integers; they are not folded.
    """
    try:
        graph = import_openvino().Core().read_model(onnx)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"{onnx}: OpenVINO cannot read it: {reason}") from error
    # what openvino.convert_model does, without guessing the file's format; NNCF uses this private name too
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(graph, cf=True)
    name_by_position(graph)
    return graph


def name_by_position(graph: Any) -> None:
    """Rename nodes that OpenVINO named after a counter of the process; their position is the same in every build."""
    for position, node in enumerate(graph.get_ordered_ops()):
        if COUNTER_NAME.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}.{position}")


def layers(graph: Any) -> tuple[WeightedLayer, ...]:
    """Convolutions and linear layers with constant weights, in the graph's order."""
    found = []
    for node in graph.get_ordered_ops():
        if node.get_type_name() in KINDS and (weights := _weights_constant(node.input_value(1).get_node())) is not None:
            found.append(WeightedLayer(_layer_name(node, weights), node, weights))
    return tuple(found)


def holds_integers(graph: Any) -> bool:
    """Whether a layer's weights are already integers, because training learned them (Q/DQ in the ONNX file)."""
    return any(layer.weights.get_element_type().is_integral() for layer in layers(graph))


def match_layers(graph: Any, patterns: tuple[str, ...]) -> tuple[WeightedLayer, ...]:
    """The layers that match one of `patterns`; BackendError for a pattern without a match, with the nearest names."""
    weighted = layers(graph)
    check_patterns(patterns, [layer.name for layer in weighted])
    return tuple(layer for layer in weighted if any(fnmatchcase(layer.name, pattern) for pattern in patterns))


def round_weights(graph: Any, rounding: Rounding) -> None:
    """Replace every layer's float weights by integers x scales, in place; BackendError when there are none."""
    ignored = {layer.name for layer in match_layers(graph, rounding.ignore)}
    floats = [layer for layer in layers(graph) if layer.weights.get_element_type().to_string() in ("f32", "f16")]
    if not [layer for layer in floats if layer.name not in ignored]:
        raise BackendError("quantize_weights found no float weights to round; remove the step, or its `ignore`")
    ends = {floats[0].name, floats[-1].name}
    for layer in floats:
        if layer.name not in ignored:
            bits = END_BITS if rounding.keep_ends and layer.name in ends else rounding.bits
            _round_layer(layer, bits, rounding)
    name_by_position(graph)


def _round_layer(layer: WeightedLayer, bits: int, rounding: Rounding) -> None:
    ops = import_openvino().opset13
    weights = np.array(layer.weights.data, np.float32)
    columns = layer.node.get_type_name() == "MatMul" and not layer.node.get_attributes()["transpose_b"]
    rows = weights.T if columns else weights
    lead = 2 if layer.node.get_type_name() == "GroupConvolution" else 1
    flat = rows.reshape(int(np.prod(rows.shape[:lead])), -1)
    codes, scales = round_to_bits(flat, bits, None if columns else rounding.group, rounding.clip)
    if scales.shape[1] == 1:  # one scale per channel: integers in the weights' own shape
        codes = codes.reshape(rows.shape).T if columns else codes.reshape(rows.shape)
        scales = scales.reshape(1, -1) if columns else scales.reshape(*rows.shape[:lead], *[1] * (rows.ndim - lead))
    wide = ops.convert(
        ops.constant(np.ascontiguousarray(codes), np.int8, name=layer.weights.get_friendly_name()), "f32"
    )
    whole = ops.multiply(wide, ops.constant(scales))
    if scales.ndim == 3 and codes.shape != weights.shape:
        whole = ops.reshape(whole, ops.constant(np.array(weights.shape, np.int64)), False)
    layer.node.input(1).replace_source_output(whole.output(0))


def _weights_constant(node: Any) -> Any:
    """The constant behind a weight's input; None when it is computed from the image."""
    while node.get_type_name() in WEIGHT_PATH_KINDS:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _layer_name(node: Any, weights: Any) -> str:
    name = weights.get_friendly_name()
    if not name.endswith(".weight"):
        return str(node.get_friendly_name().removesuffix("/WithoutBiases"))
    return EXPORTER_AFFIXES.sub("", name)
