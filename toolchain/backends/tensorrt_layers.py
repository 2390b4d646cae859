"""The builder's list of layers -> what each layer is computed in, and whether int8 was made where it was asked for.

Reads the lines that TensorRT logs with detailed profiling verbosity (a line a layer, `Name: …, LayerType: …, Inputs: [
{ … Datatype: Int8 … } ], Constants: …, Outputs: …, Metadata: [ONNX Layer: …]`). Knows nothing of how they were got.
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
    """convolutions: of the ONNX file, by name, with how many weights each has. BackendError for a line in another form:
    what is not understood must not count as int8."""
    told = tuple(map(_parse_line, lines))
    if not told:
        raise BackendError(f"{engine} told no layers of the engine that it built; it cannot be audited")
    return LayerInspection(
        engine=engine,
        precision=precision,
        capabilities=capabilities,
        batches=batches,
        source="builder",
        convolutions=_convolution_types(told, convolutions),
        kernels=sum(one.layer.kind not in NO_KERNEL for one in told),
        plan_bytes=plan_bytes,
        layers=tuple(one.layer for one in told),
    )


def _convolution_types(told: Sequence[_ParsedLayer], convolutions: Mapping[str, int]) -> dict[str, str]:
    """A convolution is in the layer that has its node and as many weights; the kernels round it have the node too, and
    fewer (a bias). Weights that are computed while it runs are no constants: then it is what is no pointwise kernel.
    Of what goes in and the weights the wider type counts, and of several layers the widest: one float among them is not
    int8."""
    found: dict[str, str] = {}
    for name, count in convolutions.items():
        of_it = [one for one in told if name in one.layer.onnx]
        weighed = [(one, tensor) for one in of_it for tensor in one.constants if tensor.elements >= count]
        kinds = {kind for one, tensor in weighed for kind in (one.layer.computes, tensor.kind)}
        kinds = kinds or {one.layer.computes for one in of_it if one.layer.kind != POINTWISE}
        found[name] = max(kinds, key=_width, default="not found")
    return found


def _width(kind: str) -> int:
    return BYTES.get(kind, 9)


def _parse_line(line: str) -> _ParsedLayer:
    match = LINE.match(line)
    if match is None:
        raise BackendError(f"TensorRT tells a layer in a form that is not known here: {line[:120]!r}")
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
        # -1: the batch, here of one
        _LayerTensor(match["type"], prod(abs(int(axis)) for axis in match["shape"].split(",") if axis))
        for match in TENSOR.finditer(text)
    ]


def convolution_sizes(model: Any) -> dict[str, int]:
    """Names of the convolutions in an onnx.ModelProto, and how many weights each has."""
    weights: dict[str, int] = {tensor.name: int(prod(tensor.dims)) for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}

    def held(name: str) -> int:
        """Behind what rounds them."""
        while name not in weights and name in makers:
            name = makers[name].input[0]
        return weights.get(name, 0)

    return {node.name: held(node.input[1]) for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")}


def count_types(audit: LayerInspection) -> Mapping[str, int]:
    """How many convolutions are computed in each type."""
    kinds = list(audit.convolutions.values())
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
