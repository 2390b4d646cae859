"""Reports, before TensorRT runs, what it would refuse or compute in another way than intended: node, reason and cure.

Each rule was found with the real parser and builder (TensorRT for RTX 1.7), and a test checks it against them. Knows
only the ONNX graph; needs no NVIDIA software.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from toolchain.errors import BackendError
from toolchain.records.tensors import Array

FP8_FROM = 89  # compute capability
QDQ_KINDS = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}  # the weights' axis with one scale per output
ORT_KERNELS = (
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)


class Fault(NamedTuple):
    """A node that TensorRT would not run as intended, by its name or, if it has none, its first output."""

    node: str
    rule: str
    reason: str
    cure: str

    @property
    def sentence(self) -> str:
        return f"{self.node}: {self.reason}; {self.cure}"


@dataclass(frozen=True)
class _Graph:
    model: Any

    @property
    def nodes(self) -> Sequence[Any]:
        nodes: Sequence[Any] = self.model.graph.node
        return nodes

    @cached_property
    def constants(self) -> Mapping[str, Array]:
        from onnx import numpy_helper

        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                values = [
                    numpy_helper.to_array(attribute.t) for attribute in node.attribute if attribute.name == "value"
                ]
                held.update(zip(node.output, values, strict=False))
        return held

    @cached_property
    def types(self) -> Mapping[str, int]:
        """ONNX element types of initializers and of every tensor whose type can be inferred."""
        from onnx import shape_inference

        inferred = shape_inference.infer_shapes(self.model).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        return {
            **{value.name: value.type.tensor_type.elem_type for value in values},
            **{tensor.name: tensor.data_type for tensor in self.model.graph.initializer},
        }

    @cached_property
    def makers(self) -> Mapping[str, Any]:
        return {output: node for node in self.nodes for output in node.output}

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is a constant, or a constant behind Q/DQ."""
        maker = self.makers.get(name)
        if name in self.constants or maker is None:
            return name in self.constants
        return maker.op_type in (*QDQ_KINDS, "Cast") and self.is_weight(maker.input[0])

    def zero(self, node: Any) -> str:
        """The name of a Q/DQ node's zero point; '' where it has none (by the standard 0 of uint8)."""
        return node.input[2] if len(node.input) > 2 else ""


def find_faults(model: Any, capabilities: Sequence[int] = ()) -> tuple[Fault, ...]:
    """All faults, in the order of RULES. model: an onnx.ModelProto; capabilities: of the target GPUs, such as 86."""
    graph = _Graph(model)
    faults = [
        Fault(node.name or node.output[0], rule, reason, cure)
        for rule, (look, cure) in RULES.items()
        for node, reason in look(graph)
    ]
    return (*faults, *_fp8_types(graph, capabilities))


def check_graph(model: Any, capabilities: Sequence[int] = ()) -> None:
    """BackendError with the first fault and the number of further ones."""
    faults = find_faults(model, capabilities)
    if faults:
        more = f" ({len(faults) - 1} more faults)" if len(faults) > 1 else ""
        raise BackendError(f"TensorRT would not accept this graph: {faults[0].sentence}{more}")


Findings = Iterator[tuple[Any, str]]


def _nonzero_zero_points(graph: _Graph) -> Findings:
    for node in _qdq_nodes(graph):
        zero = graph.constants.get(graph.zero(node))
        if zero is not None and np.any(zero.astype(np.float64)):
            yield node, f"its zero point is {int(zero.reshape(-1)[0])}; TensorRT supports only symmetric ranges"


def _unsigned_types(graph: _Graph) -> Findings:
    """The parser silently reads a uint8 zero point of 0 as int8, which cuts off all values above 127."""
    from onnx import TensorProto

    for node in _qdq_nodes(graph):
        zero = graph.zero(node)
        kind = graph.types.get(zero, TensorProto.UNDEFINED) if zero else _standard_type(graph, node)
        if kind == TensorProto.UINT8:
            yield node, "it rounds to uint8, which TensorRT reads as int8: values above 127 would be cut off"


def _standard_type(graph: _Graph, node: Any) -> int:
    """Without a zero point: the requested type (opset 21), or the input's; else uint8, as ONNX defines."""
    from onnx import TensorProto

    requested = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype" and attribute.i]
    if requested:
        return int(requested[0])
    incoming = graph.types.get(node.input[0], TensorProto.UNDEFINED)
    return incoming if node.op_type == "DequantizeLinear" else int(TensorProto.UINT8)


def _int32_inputs(graph: _Graph) -> Findings:
    from onnx import TensorProto

    for node in graph.nodes:
        if node.op_type == "DequantizeLinear" and graph.types.get(node.input[0]) == TensorProto.INT32:
            yield node, "it reads INT32 (most likely a bias); TensorRT reads int8 and narrower"


def _bad_scales(graph: _Graph) -> Findings:
    for node in _qdq_nodes(graph):
        scale = graph.constants.get(node.input[1])
        if scale is not None and not np.all(scale.astype(np.float64) > 0):
            yield node, f"a scale is {float(scale.astype(np.float64).min()):g}; all must be above 0"


def _uint8_operations(graph: _Graph) -> Findings:
    from onnx import TensorProto

    for node in graph.nodes:
        if node.op_type in ("Cast", *QDQ_KINDS):
            continue
        if any(graph.types.get(name) == TensorProto.UINT8 for name in node.input):
            yield node, f"{node.op_type} of uint8; TensorRT can only cast bytes to floats"


def _int16_types(graph: _Graph) -> Findings:
    from onnx import TensorProto

    kinds: dict[int, str] = {TensorProto.INT16: "int16", TensorProto.UINT16: "uint16"}
    for node in graph.nodes:
        types = [graph.types.get(name, TensorProto.UNDEFINED) for name in (*node.input, *node.output)]
        unsupported = {kinds[kind] for kind in types if kind in kinds}
        if unsupported:
            yield node, f"it uses {', '.join(sorted(unsupported))}, which TensorRT does not support"


def _fused_kernels(graph: _Graph) -> Findings:
    for node in graph.nodes:
        if node.op_type in ORT_KERNELS:
            yield node, f"{node.op_type} is for ONNX Runtime; TensorRT expects Q/DQ around a float layer"


def _custom_operators(graph: _Graph) -> Findings:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield node, f"{node.domain}.{node.op_type} is not an ONNX operator, and TensorRT has no such plugin"


def _scale_axes(graph: _Graph) -> Findings:
    """The parser accepts both but computes the layer in float; layer inspection would find it only after the build."""
    for node in graph.nodes:
        if node.op_type not in WEIGHTED:
            continue
        for place, name in enumerate(node.input[:2]):
            maker = graph.makers.get(name)
            if maker is None or maker.op_type != "DequantizeLinear":
                continue
            scale = graph.constants.get(maker.input[1])
            if scale is None or scale.size == 1:
                continue
            if not graph.is_weight(name):
                yield maker, f"a scale per channel of the input of {node.name or node.output[0]}"
            elif place == 1 and _axis(maker, scale) != _outputs_axis(node):
                yield maker, f"scales along axis {_axis(maker, scale)} of {node.name or node.output[0]}'s weights"


def _axis(node: Any, scale: Array) -> int:
    if scale.size == 1:
        return -1
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), 1)


def _outputs_axis(node: Any) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 1 if node.op_type == "Gemm" and not transposed else WEIGHTED[node.op_type]


def _fp8_types(graph: _Graph, capabilities: Sequence[int]) -> Iterator[Fault]:
    from onnx import TensorProto

    old = [capability for capability in capabilities if capability < FP8_FROM]
    if not old:
        return
    for node in _qdq_nodes(graph):
        zero = graph.zero(node)
        if zero and graph.types.get(zero) in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2):
            reason = f"it rounds to FP8, which compute capability {old[0] / 10:.1f} does not support"
            yield Fault(node.name or node.output[0], "fp8", reason, f"FP8 needs {FP8_FROM / 10} or later; use int8")


def _qdq_nodes(graph: _Graph) -> Iterator[Any]:
    return (node for node in graph.nodes if node.op_type in QDQ_KINDS)


SYMMETRIC = "quantize symmetrically: qat = { symmetric = true }, or --target=tensorrt from the float model"
RULES: dict[str, tuple[Callable[[_Graph], Findings], str]] = {
    "kernel": (_fused_kernels, "quantize with Q/DQ nodes (QuantFormat.QDQ)"),
    "plugin": (_custom_operators, "export with standard operators"),
    "zero-point": (_nonzero_zero_points, SYMMETRIC),
    "unsigned": (_unsigned_types, SYMMETRIC),
    "bias": (_int32_inputs, "keep the bias in float (QuantizeBias=False for ONNX Runtime's quantizer)"),
    "scale": (_bad_scales, "calibrate again; a layer that saw only zeros has no range"),
    "bytes": (_uint8_operations, "cast to float first"),
    "type": (_int16_types, "export with float32 and int64"),
    "range": (
        _scale_axes,
        "use one scale for activations and one per output channel for weights; otherwise it runs in float",
    ),
}
