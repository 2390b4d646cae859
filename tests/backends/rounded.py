"""Small ONNX graphs with Q/DQ around a convolution, valid and faulty, for TensorRT's real parser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from toolchain.records.tensors import Array

CHANNELS, OUTPUTS, SIDE = 3, 8, 8
SCALE, ZERO = np.float32(0.1), np.int8(0)
WEIGHTS = np.random.default_rng(0).normal(size=(OUTPUTS, CHANNELS, 3, 3)).astype(np.float32)


def graph(
    nodes: Sequence[Any],
    constants: dict[str, Array] | None = None,
    kind: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    domains: Sequence[str] = (),
) -> ModelProto:
    """x [N, 3, 8, 8] of `kind` in, y out."""
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", kind, [None, CHANNELS, SIDE, SIDE])
    y = helper.make_tensor_value_info("y", result, None)
    opsets = [helper.make_opsetid("", 19), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], held), opset_imports=opsets, ir_version=9)


def rounded_convolution(
    zero: Array | np.generic = ZERO,
    scale: Array | np.generic = SCALE,
    scale_axis: int | None = None,
    weight_axis: int = 0,
    bias: bool = False,
) -> ModelProto:
    """A convolution whose input and weights are rounded. scale_axis: of the input's scales, where there are several;
    bias: whether it has an INT32 bias behind a DequantizeLinear, like those that ONNX Runtime's quantizer writes."""
    count = WEIGHTS.shape[weight_axis]
    along = {} if scale_axis is None else {"axis": scale_axis}
    constants: dict[str, Any] = {"s": scale, "z": zero, "w": WEIGHTS}
    constants |= {"ws": np.full(count, 0.01, np.float32), "wz": np.zeros(count, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "in_q", **along),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "in_dq", **along),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], "w_q", axis=weight_axis),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], "w_dq", axis=weight_axis),
    ]
    inputs = ["d", "wd"]
    if bias:
        constants |= {"b": np.zeros(OUTPUTS, np.int32), "bz": np.zeros(OUTPUTS, np.int32)}
        constants["bs"] = np.full(OUTPUTS, 0.001, np.float32)
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], "bias_dq", axis=0))
        inputs.append("bd")
    return graph([*nodes, helper.make_node("Conv", inputs, ["y"], "conv")], constants)


def as_fp8(model: ModelProto) -> ModelProto:
    """The same graph with FP8 zero points."""
    for tensor in model.graph.initializer:
        if tensor.name in ("z", "wz"):
            tensor.data_type = TensorProto.FLOAT8E4M3FN
    return model
