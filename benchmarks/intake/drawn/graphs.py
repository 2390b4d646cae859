"""ONNX files of the same small network as other tools write it. Knows nothing of torch's exporter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.intake.drawn.recipes import SIDE, IntakeCase, write_recipe

OPSETS = (7, 9, 11, 13, 17, 21)
TOO_NEW = 99
Arrays = Mapping[str, NDArray[np.generic]]


def draw_graphs(base: Path, module: nn.Module) -> list[IntakeCase]:
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    models = {f"o-opset{opset}": _model(weights, opset) for opset in OPSETS}
    models |= {
        "o-softmax": _model(weights, 13, softmax=True),
        "o-channels-last": _model(weights, 13, channels_last=True),
        "o-half": _model(half, 13, TensorProto.FLOAT16),
        "o-fixed": _model(weights, 13, batch=1),
    }
    models["o-ir3"] = _as_first_format(_model(weights, 9))
    for name, model in models.items():
        onnx.save(model, base / f"{name}.onnx")
    for name in ("o-outside", "o-outside-gone"):
        model = _model(weights, 13)
        onnx.save(model, base / f"{name}.onnx", save_as_external_data=True, location=f"{name}.data", size_threshold=0)
    (base / "o-outside-gone.data").unlink()
    newer, format_99 = _model(weights, 13), _model(weights, 13)
    newer.opset_import[0].version = TOO_NEW
    format_99.ir_version = TOO_NEW
    (base / "o-opset99.onnx").write_bytes(newer.SerializeToString())
    (base / "o-ir99.onnx").write_bytes(format_99.SerializeToString())
    whole = (base / "o-opset13.onnx").read_bytes()
    (base / "o-cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused = {
        "o-outside-gone": "o-outside-gone",
        "o-opset99": "the newest that is taken",
        "o-ir99": "the newest that is taken",
        "o-cut": "ONNX",
        "o-absent": "no such file",
    }
    cases = [IntakeCase(name, "builds") for name in (*models, "o-outside")]
    cases += [IntakeCase(name, "refused", says) for name, says in refused.items()]
    return [write_recipe(base, case, f'source = "{case.name}.onnx"') for case in cases]


def _as_first_format(model: onnx.ModelProto) -> onnx.ModelProto:
    """As tools wrote it when each weight was an input of the graph too."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def _model(
    weights: Arrays,
    opset: int,
    kind: int = TensorProto.FLOAT,
    *,
    softmax: bool = False,
    channels_last: bool = False,
    batch: int | str = "N",
) -> onnx.ModelProto:
    shape = [batch, SIDE, SIDE, 3] if channels_last else [batch, 3, SIDE, SIDE]
    nodes = [helper.make_node("Transpose", ["in/put:0"], ["x0"], perm=[0, 3, 1, 2])] if channels_last else []
    conv: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    normalization = [f"1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    nodes += [
        helper.make_node("Conv", ["x0" if channels_last else "in/put:0", "0.weight", "0.bias"], ["x1"], **conv),
        helper.make_node("BatchNormalization", ["x1", *normalization], ["x2"]),
        helper.make_node("Relu", ["x2"], ["x3"]),
        helper.make_node("Conv", ["x3", "3.weight", "3.bias"], ["x4"], **conv),
        helper.make_node("GlobalAveragePool", ["x4"], ["x5"]),
        helper.make_node("Flatten", ["x5"], ["x6"]),
        helper.make_node("Gemm", ["x6", "6.weight", "6.bias"], ["logits" if softmax else "out/put:0"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["out/put:0"], axis=1))
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("in/put:0", kind, shape)],
        [helper.make_tensor_value_info("out/put:0", kind, [batch, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
