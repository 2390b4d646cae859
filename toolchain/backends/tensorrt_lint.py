"""What TensorRT would refuse, or take and compute otherwise than meant, told before it is asked: which node, why, the
cure.

Each rule was found by asking the real parser and builder (TensorRT for RTX 1.7), and a test asks them again. Knows the
ONNX graph alone; needs nothing of NVIDIA's.
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
WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": 1}  # the weights' axis that has a scale for each output
ORT_KERNELS = (
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
)


class Fault(NamedTuple):
    """A node that TensorRT would not take as it is meant, by its name or, where it has none, its first output."""

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
                values = [numpy_helper.to_array(one.t) for one in node.attribute if one.name == "value"]
                held.update(zip(node.output, values, strict=False))
        return held

    @cached_property
    def types(self) -> Mapping[str, int]:
        """ONNX element types of initializers and of what can be inferred."""
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

    def weighs(self, name: str) -> bool:
        """Whether a tensor is a constant, or a constant rounded."""
        maker = self.makers.get(name)
        if name in self.constants or maker is None:
            return name in self.constants
        return maker.op_type in (*QDQ_KINDS, "Cast") and self.weighs(maker.input[0])

    def zero(self, node: Any) -> str:
        """The name of a Q/DQ node's zero point; '' where it has none (zero, uint8 by the standard)."""
        return node.input[2] if len(node.input) > 2 else ""


def find_faults(model: Any, capabilities: Sequence[int] = ()) -> tuple[Fault, ...]:
    """All of them, in the rules' order. model: an onnx.ModelProto; capabilities: of the GPUs that it is for, 86."""
    graph = _Graph(model)
    found = [
        Fault(node.name or node.output[0], rule, reason, cure)
        for rule, (look, cure) in RULES.items()
        for node, reason in look(graph)
    ]
    return (*found, *_fp8_types(graph, capabilities))


def check_graph(model: Any, capabilities: Sequence[int] = ()) -> None:
    """BackendError with the first fault, and how many more there are."""
    found = find_faults(model, capabilities)
    if found:
        more = f" ({len(found) - 1} more like it, or others)" if len(found) > 1 else ""
        raise BackendError(f"TensorRT would not take this graph: {found[0].sentence}{more}")


Findings = Iterator[tuple[Any, str]]


def _nonzero_zero_points(graph: _Graph) -> Findings:
    for node in _qdq_nodes(graph):
        zero = graph.constants.get(graph.zero(node))
        if zero is not None and np.any(zero.astype(np.float64)):
            yield node, f"its zero point is {int(zero.reshape(-1)[0])}; TensorRT knows symmetric ranges alone"


def _unsigned_types(graph: _Graph) -> Findings:
    """The parser takes a uint8 zero point of 0 without a word, and makes an int8 of it: all above 127 is cut off."""
    from onnx import TensorProto

    for node in _qdq_nodes(graph):
        zero = graph.zero(node)
        kind = graph.types.get(zero, TensorProto.UNDEFINED) if zero else _standard_type(graph, node)
        if kind == TensorProto.UINT8:
            yield node, "it rounds to uint8, which TensorRT reads as int8: what lies above 127 would be cut off"


def _standard_type(graph: _Graph, node: Any) -> int:
    """Without a zero point: the type that is asked for (opset 21), or that comes in; else uint8, as ONNX has it."""
    from onnx import TensorProto

    asked = [one.i for one in node.attribute if one.name == "output_dtype" and one.i]
    if asked:
        return int(asked[0])
    coming = graph.types.get(node.input[0], TensorProto.UNDEFINED)
    return coming if node.op_type == "DequantizeLinear" else int(TensorProto.UINT8)


def _int32_inputs(graph: _Graph) -> Findings:
    from onnx import TensorProto

    for node in graph.nodes:
        if node.op_type == "DequantizeLinear" and graph.types.get(node.input[0]) == TensorProto.INT32:
            yield node, "it reads INT32 (a bias, most likely); TensorRT reads int8 and narrower"


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
            yield node, f"{node.op_type} of uint8; TensorRT does nothing with bytes but turn them into floats"


def _int16_types(graph: _Graph) -> Findings:
    from onnx import TensorProto

    kinds: dict[int, str] = {TensorProto.INT16: "int16", TensorProto.UINT16: "uint16"}
    for node in graph.nodes:
        types = [graph.types.get(name, TensorProto.UNDEFINED) for name in (*node.input, *node.output)]
        found = {kinds[kind] for kind in types if kind in kinds}
        if found:
            yield node, f"it uses {', '.join(sorted(found))}, which TensorRT has not"


def _fused_kernels(graph: _Graph) -> Findings:
    for node in graph.nodes:
        if node.op_type in ORT_KERNELS:
            yield node, f"{node.op_type} is for ONNX Runtime; TensorRT wants Q/DQ round a float layer"


def _custom_operators(graph: _Graph) -> Findings:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield node, f"{node.domain}.{node.op_type} is no operator of ONNX, and TensorRT has no such plugin"


def _scale_axes(graph: _Graph) -> Findings:
    """The parser takes both, and the layer is computed in float: the audit would find it after the build."""
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
            if not graph.weighs(name):
                yield maker, f"a scale for each channel of what goes into {node.name or node.output[0]}"
            elif place == 1 and _axis(maker, scale) != _outputs_axis(node):
                yield maker, f"scales along axis {_axis(maker, scale)} of {node.name or node.output[0]}'s weights"


def _axis(node: Any, scale: Array) -> int:
    if scale.size == 1:
        return -1
    return next((int(one.i) for one in node.attribute if one.name == "axis"), 1)


def _outputs_axis(node: Any) -> int:
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return 1 if node.op_type == "Gemm" and not turned else WEIGHTED[node.op_type]


def _fp8_types(graph: _Graph, capabilities: Sequence[int]) -> Iterator[Fault]:
    from onnx import TensorProto

    old = [one for one in capabilities if one < FP8_FROM]
    if not old:
        return
    for node in _qdq_nodes(graph):
        zero = graph.zero(node)
        if zero and graph.types.get(zero) in (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2):
            reason = f"it rounds to FP8, which compute capability {old[0] / 10:.1f} has not"
            yield Fault(node.name or node.output[0], "fp8", reason, f"FP8 needs {FP8_FROM / 10} or later; take int8")


def _qdq_nodes(graph: _Graph) -> Iterator[Any]:
    return (node for node in graph.nodes if node.op_type in QDQ_KINDS)


SYMMETRIC = "quantize symmetrically: qat = { symmetric = true }, or --target=tensorrt from the float net"
RULES: dict[str, tuple[Callable[[_Graph], Findings], str]] = {
    "kernel": (_fused_kernels, "quantize with Q/DQ nodes (QuantFormat.QDQ)"),
    "plugin": (_custom_operators, "export with standard operators"),
    "zero-point": (_nonzero_zero_points, SYMMETRIC),
    "unsigned": (_unsigned_types, SYMMETRIC),
    "bias": (_int32_inputs, "leave the bias in float (QuantizeBias=False for ONNX Runtime's quantizer)"),
    "scale": (_bad_scales, "calibrate again; a layer that only ever saw zeros has no range"),
    "bytes": (_uint8_operations, "cast to float first"),
    "type": (_int16_types, "export with float32 and int64"),
    "range": (_scale_axes, "one scale for activations, one for each output channel of weights; else it runs in float"),
}
