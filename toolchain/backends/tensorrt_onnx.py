"""A float ONNX graph -> the graph that TensorRT builds: bytes are cast first, and each node has the type that it is
computed in.

Since TensorRT 11 networks are strongly typed, so fp16, bf16 and int8 are set here, by NVIDIA's ModelOpt (AutoCast;
post-training quantization with symmetric Q/DQ), which runs on the CPU. Knows nothing of building plans.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import has_qdq, layer_names, name_nodes
from toolchain.backends.modelopt import ModelOptRequest, run_modelopt
from toolchain.errors import BackendError
from toolchain.records.manifest import Precision

SYMMETRIC_ZERO = 128  # of uint8


def typed_graph(path: Path, precision: Precision, calibration: Calibration | None) -> tuple[Any, tuple[str, ...]]:
    """The onnx.ModelProto in `precision`, and the nodes that `ignore` keeps in float. BackendError: no images, or an
    option that this target does not support."""
    import onnx

    model = name_nodes(cast_before_transpose(onnx.load(path)))
    if has_qdq(model):
        return use_signed_integers(model), ()
    if precision == "fp32":
        return model, ()
    if calibration is None or len(calibration.images) == 0:
        raise BackendError(
            f"{precision} needs calibration images and got none; add `quantize = {{}}` to the recipe's steps"
        )
    if precision == "int8":
        _check_options(calibration)
    excluded = layer_names(model, calibration.ignore) if precision == "int8" and calibration.ignore else ()
    with tempfile.TemporaryDirectory(prefix="typed.") as folder:
        onnx.save(model, Path(folder) / "in.onnx")
        return run_modelopt(Path(folder), ModelOptRequest(precision, excluded), calibration.images), excluded


def _check_options(calibration: Calibration) -> None:
    for wanted, option in (
        (calibration.smooth, "smooth"),
        (calibration.bias_correction == "exact", 'bias_correction = "exact"'),
        (not calibration.per_channel, "per_channel = false"),
        (calibration.max_drop is not None, "max_drop"),
    ):
        if wanted:
            raise BackendError(f"target tensorrt does not support {option}; remove it from quantize")


def cast_before_transpose(model: Any) -> Any:
    """The same graph with the Cast of the uint8 images moved before their Transpose, since TensorRT can only cast
    bytes."""
    from onnx import TensorProto

    graph = model.graph
    byte_inputs = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for transpose in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in byte_inputs]:
        readers = [node for node in graph.node if transpose.output[0] in node.input]
        if len(readers) != 1 or readers[0].op_type != "Cast":
            continue
        (cast,) = readers
        image, between, result = transpose.input[0], transpose.output[0], cast.output[0]
        cast.input[0], cast.output[0] = image, between
        transpose.input[0], transpose.output[0] = between, result
        nodes = list(graph.node)
        first, second = nodes.index(transpose), nodes.index(cast)
        nodes[first], nodes[second] = cast, transpose
        del graph.node[:]
        graph.node.extend(nodes)
    del graph.value_info[:]  # the tensors between have other types and shapes now
    return model


def use_signed_integers(model: Any) -> Any:
    """The same graph with uint8 rounding around 128 rewritten as int8 rounding around 0: the same values, in the only
    form that TensorRT supports. Other zero points are left for the lint to report."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    constants = {
        node.output[0]: field.t for node in graph.node if node.op_type == "Constant" for field in node.attribute
    }
    qdq = [
        node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2
    ]
    of_weights = {node.input[2] for node in qdq if node.input[0] in stored}
    for name in {node.input[2] for node in qdq} - of_weights:
        tensor = {**stored, **constants}.get(name)
        if tensor is None:
            continue
        if tensor.data_type == TensorProto.UINT8 and np.all(numpy_helper.to_array(tensor) == SYMMETRIC_ZERO):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.int8), tensor.name or name))
    del graph.value_info[:]  # the integers between have another type now
    return model


def emulate_bf16(model: Any) -> Any:
    """A bf16 graph as a float32 graph that rounds each bf16 tensor, like tensor cores, which accumulate in float32.
    ONNX Runtime has no bf16 kernels for CPUs."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    narrow = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    }
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    nodes = []
    for node in graph.node:
        _widen(node)
        nodes.append(node)
        for place, output in enumerate(node.output):
            if output in narrow:
                node.output[place] = f"{output}.wide"
                nodes.append(helper.make_node("Cast", [f"{output}.wide"], [f"{output}.bf16"], to=TensorProto.BFLOAT16))
                nodes.append(helper.make_node("Cast", [f"{output}.bf16"], [output], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def _widen(node: Any) -> None:
    from onnx import TensorProto, numpy_helper

    for field in node.attribute:
        if field.name == "to" and field.i == TensorProto.BFLOAT16:
            field.i = TensorProto.FLOAT
        if field.name == "value" and field.t.data_type == TensorProto.BFLOAT16:
            field.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(field.t).astype(np.float32)))
