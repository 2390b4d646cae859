"""Reads a user's ONNX file: of versions that are known here, valid, complete and finite.

What the graph takes and returns is interface.py's.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from toolchain.errors import ModelError

OLDEST_OPSET = 7
STANDARD = ("", "ai.onnx")  # the names of ONNX's own operator set


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model with its weights, including those in files next to it. ModelError, in one line, for a file that is not
    ONNX, is of an unknown version, lacks a file of its weights, or has weights that are not finite."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(_invalid(path, error)) from error
    _check_versions(model, path)
    _check_external_files(model, path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelError(_invalid(path, error)) from error
    _check_finite(model, path)
    return model


def external_files(model: onnx.ModelProto) -> Iterator[str]:
    """The files that hold weights of `model`, relative to its own folder."""
    yield from sorted({ExternalDataInfo(each).location for each in model.graph.initializer if uses_external_data(each)})


def standard_opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that `model` uses; 0 when it names none."""
    return max((each.version for each in model.opset_import if each.domain in STANDARD), default=0)


@cache
def newest_versions() -> tuple[int, int]:
    """The newest IR version and operator set that both the ONNX package and ONNX Runtime here take."""
    ir, opset = int(onnx.IR_VERSION), int(onnx.defs.onnx_opset_version())
    ir = next(version for version in range(ir, 0, -1) if _runs(version, OLDEST_OPSET))
    return ir, next(version for version in range(opset, OLDEST_OPSET - 1, -1) if _runs(ir, version))


def _runs(ir: int, opset: int) -> bool:
    """Whether ONNX Runtime loads a graph of these versions."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "version", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime creates its exception classes at run time
        return False
    return True


def _check_versions(model: onnx.ModelProto, path: Path) -> None:
    if not model.HasField("graph"):
        raise ModelError(f"{path}: not a valid ONNX model (it has no graph); export it again")
    (ir, opset), mine = newest_versions(), standard_opset(model)
    if model.ir_version > ir:
        raise ModelError(
            f"{path}: ONNX IR version {model.ir_version}; the newest that is taken is {ir}; export it for that"
        )
    if mine > opset:
        raise ModelError(
            f"{path}: opset {mine}; the newest that is taken is {opset}; export it with opset_version={opset}"
        )
    if mine < OLDEST_OPSET:
        raise ModelError(f"{path}: opset {mine}, expected {OLDEST_OPSET} to {opset}; export it again with a newer one")


def _check_external_files(model: onnx.ModelProto, path: Path) -> None:
    missing = [name for name in external_files(model) if not (path.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{path}: its weights are in {', '.join(missing)}, which is not in {path.parent}; put it there, or save "
            "the model as one file"
        )


def _check_finite(model: onnx.ModelProto, path: Path) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelError(f"{path}: weights that are not finite: '{tensor.name}'; take an earlier checkpoint")


def _invalid(path: Path, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{path}: not a valid ONNX model ({first}); export it again"
