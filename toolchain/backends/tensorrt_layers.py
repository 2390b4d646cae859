"""The builder's list of layers -> the type that each layer is computed in, and whether int8 was used where requested.

Reads the lines that TensorRT logs with detailed profiling verbosity, one per layer (`Name: …, LayerType: …, Inputs: [
{ … Datatype: Int8 … } ], Constants: …, Outputs: …, Metadata: [ONNX Layer: …]`). Knows nothing of where they come from.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from toolchain.errors import BackendError
from toolchain.records.manifest import Precision
from toolchain.records.tensorrt_layers import InspectedLayer, LayerInspection

BYTES = {"Float": 4, "Half": 2, "BFloat16": 2, "Int8": 1, "UInt8": 1, "FP8": 1, "Int32": 4, "Int64": 8, "Bool": 1}
POINTWISE = "kgen"
NO_KERNEL = ("shape_call", "signal", "wait", "constant")
LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: .*?Metadata: ?(?P<metadata>.*)$"
)
TENSOR = re.compile(r"Dimensions: \[(?P<shape>[-\d,]*)\], .*?Datatype: (?P<type>\w+)")
ONNX = re.compile(r"\[ONNX Layer: (.+?)\]")


class _LayerTensor(NamedTuple):
    """elements: for a batch of one."""

    kind: str
    elements: int

    @property
    def bytes(self) -> int:
        return self.elements * BYTES.get(self.kind, 0)


class _ParsedLayer(NamedTuple):
    layer: InspectedLayer
    constants: list[_LayerTensor]


def inspect_layers(
    lines: Iterable[str],
    convolutions: Mapping[str, int],
    engine: str,
    precision: Precision,
    capabilities: tuple[int, ...],
    batches: tuple[int, ...],
    plan_bytes: int,
) -> LayerInspection:
    """convolutions: the number of weights of each, by its name in the ONNX file. BackendError for a line in an unknown
    format, since a layer that cannot be read must not count as int8."""
    parsed = tuple(map(_parse_line, lines))
    if not parsed:
        raise BackendError(f"{engine} logged no layers of the engine that it built; they cannot be inspected")
    return LayerInspection(
        engine=engine,
        precision=precision,
        capabilities=capabilities,
        batches=batches,
        source="builder",
        convolutions=_convolution_types(parsed, convolutions),
        kernels=sum(layer.kind not in NO_KERNEL for layer, _ in parsed),
        plan_bytes=plan_bytes,
        layers=tuple(layer for layer, _ in parsed),
    )


def _convolution_types(parsed: Sequence[_ParsedLayer], convolutions: Mapping[str, int]) -> dict[str, str]:
    """A convolution is computed by the layer with its node and as many constants as it has weights; the kernels around
    it have the node too, but fewer constants (a bias). Where weights are computed at run time and so are not constants,
    it is the layer that is not a pointwise kernel. The widest type of inputs and weights counts, over all such layers:
    one float among them is not int8."""
    types: dict[str, str] = {}
    for name, count in convolutions.items():
        layers = [(layer, constants) for layer, constants in parsed if name in layer.onnx]
        weighted = [(layer, tensor) for layer, constants in layers for tensor in constants if tensor.elements >= count]
        kinds = {kind for layer, tensor in weighted for kind in (layer.computes, tensor.kind)}
        kinds = kinds or {layer.computes for layer, _ in layers if layer.kind != POINTWISE}
        types[name] = max(kinds, key=_width, default="not found")
    return types


def _width(kind: str) -> int:
    return BYTES.get(kind, 9)


def _parse_line(line: str) -> _ParsedLayer:
    match = LINE.match(line)
    if match is None:
        raise BackendError(f"TensorRT logged a layer in a format that is not known here: {line[:120]!r}")
    inputs, constants, outputs = (_tensors(match[part]) for part in ("inputs", "constants", "outputs"))
    layer = InspectedLayer(
        name=match["name"],
        kind=match["kind"],
        onnx=tuple(ONNX.findall(match["metadata"])),
        computes=inputs[0].kind if inputs else "",
        writes=outputs[0].kind if outputs else "",
        weight_bytes=sum(tensor.bytes for tensor in constants),
        activation_bytes=sum(tensor.bytes for tensor in outputs),
    )
    return _ParsedLayer(layer, constants)


def _tensors(text: str) -> list[_LayerTensor]:
    return [
        # -1: the batch, counted as 1
        _LayerTensor(match["type"], prod(abs(int(axis)) for axis in match["shape"].split(",") if axis))
        for match in TENSOR.finditer(text)
    ]


def convolution_sizes(model: Any) -> dict[str, int]:
    """The number of weights of each convolution in an onnx.ModelProto, by name."""
    weights: dict[str, int] = {tensor.name: int(prod(tensor.dims)) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}

    def weight_count(name: str) -> int:
        """Of the constant behind its Q/DQ nodes."""
        while name not in weights and name in makers:
            name = makers[name].input[0]
        return weights.get(name, 0)

    return {
        node.name: weight_count(node.input[1]) for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")
    }


def count_types(inspection: LayerInspection) -> Mapping[str, int]:
    """How many convolutions are computed in each type."""
    kinds = list(inspection.convolutions.values())
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
