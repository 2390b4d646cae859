"""Every rule against the real parser and builder of TensorRT for RTX: what the lint refuses, they refuse or compute in
another way than intended."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from deploy.runtime.engines.tensorrt_plan import TensorRtPlan, build_plan, load_library
from tests.backends.rounded import SCALE, WEIGHTS, ZERO, as_fp8, graph, rounded_convolution
from toolchain.backends.tensorrt_layers import convolution_sizes, inspect_layers
from toolchain.backends.tensorrt_lint import check_graph, find_faults
from toolchain.errors import BackendError, DeviceError

BY_HAND = {"s": SCALE, "z": ZERO, "w": WEIGHTS.astype(np.int8)}


def plan(model: ModelProto, capability: int = 86) -> TensorRtPlan:
    return build_plan(load_library("rtx"), model.SerializeToString(), (1, 8, 32), (capability,))


def transposed_bytes() -> ModelProto:
    turn = helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 2, 3, 1])
    return graph([turn, helper.make_node("Cast", ["t"], ["y"], "cast", to=TensorProto.FLOAT)], kind=TensorProto.UINT8)


def through_int16() -> ModelProto:
    narrow = helper.make_node("Cast", ["x"], ["t"], "narrow", to=TensorProto.INT16)
    return graph([narrow, helper.make_node("Cast", ["t"], ["y"], "wide", to=TensorProto.FLOAT)])


def of_onnx_runtime() -> ModelProto:
    return graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
            helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "z", "s", "z"], ["r"], "fused"),
            helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"], "d"),
        ],
        BY_HAND,
    )


def dynamic_ranges() -> ModelProto:
    return graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "rs", "rz"], "dynamic"),
            helper.make_node("DequantizeLinear", ["q", "rs", "rz"], ["y"], "d"),
        ]
    )


def custom_operator() -> ModelProto:
    return graph([helper.make_node("Foo", ["x"], ["y"], "own", domain="mine")], domains=["mine"])


@pytest.mark.parametrize(
    ("model", "node", "rule", "reason", "parser"),
    [
        (rounded_convolution(zero=np.int8(3)), "in_q", "zero-point", "zero point is 3", "Non-zero zero point"),
        (rounded_convolution(zero=np.uint8(128)), "in_q", "zero-point", "zero point is 128", "Non-zero zero point"),
        (rounded_convolution(bias=True), "bias_dq", "bias", "reads INT32", "has type Int32"),
        (rounded_convolution(scale=np.float32(0)), "in_q", "scale", "a scale is 0", "must all be positive"),
        (rounded_convolution(scale=np.float32(-1)), "in_q", "scale", "a scale is -1", "must all be positive"),
        (transposed_bytes(), "turn", "bytes", "Transpose of uint8", "has type UInt8"),
        (through_int16(), "narrow", "type", "int16, which TensorRT does not support", "Unsupported data type"),
        (of_onnx_runtime(), "fused", "kernel", "QLinearConv is for ONNX Runtime", "fused"),
        (dynamic_ranges(), "dynamic", "kernel", "DynamicQuantizeLinear", "dynamic"),
        (custom_operator(), "own", "plugin", r"mine\.Foo is not an ONNX operator", "Plugin not found"),
    ],
)
def test_what_the_parser_refuses_is_reported_before_with_node_and_cure(
    model: ModelProto, node: str, rule: str, reason: str, parser: str
) -> None:
    first = find_faults(model)[0]
    assert (first.node, first.rule) == (node, rule)
    assert first.cure
    with pytest.raises(BackendError, match=rf"TensorRT would not accept this graph: {node}: .*{reason}.*; ") as caught:
        check_graph(model)
    assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match=rf"tensorrt-rtx .* cannot read the graph: .*{parser}") as refused:
        plan(model)
    assert "\n" not in str(refused.value)


def test_a_valid_graph_has_no_faults_and_is_built() -> None:
    model = rounded_convolution()
    assert find_faults(model, (86,)) == ()
    check_graph(model, (86,))
    assert plan(model).content


def test_fp8_is_refused_for_the_a6000_and_built_for_a_later_gpu() -> None:
    model = as_fp8(rounded_convolution())
    assert [fault.rule for fault in find_faults(model, (86,))] == ["fp8"] * 4
    with pytest.raises(BackendError, match=r"in_q: it rounds to FP8, which compute capability 8\.6 does not support"):
        check_graph(model, (86, 89))
    with pytest.raises(DeviceError, match=r"cannot build the graph: .*fp8_e4m3"):
        plan(model)
    assert find_faults(model, (89,)) == ()
    assert plan(model, 89).content


def test_uint8_ranges_are_refused_because_the_parser_silently_reads_them_as_int8() -> None:
    model = rounded_convolution(zero=np.uint8(0))
    assert [(fault.node, fault.rule) for fault in find_faults(model)] == [("in_q", "unsigned"), ("in_dq", "unsigned")]
    lines = plan(model).layers
    assert lines
    assert not any("Datatype: UInt8" in line for line in lines)
    assert any("Datatype: Int8" in line for line in lines)


@pytest.mark.parametrize(
    ("model", "node", "reason"),
    [
        (
            rounded_convolution(zero=np.zeros(3, np.int8), scale=np.full(3, 0.1, np.float32), scale_axis=1),
            "in_dq",
            "a scale per channel of the input of conv",
        ),
        (rounded_convolution(weight_axis=1), "w_dq", "scales along axis 1 of conv's weights"),
    ],
)
def test_scales_that_leave_a_convolution_in_float_are_refused(model: ModelProto, node: str, reason: str) -> None:
    assert [(fault.node, fault.rule, fault.reason) for fault in find_faults(model)] == [(node, "range", reason)]
    result = plan(model)
    inspection = inspect_layers(
        result.layers, convolution_sizes(model), "rtx", "int8", (86,), (1, 8, 32), len(result.content)
    )
    assert inspection.convolutions == {"conv": "Float"}
