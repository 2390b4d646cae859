"""Checks a user's ONNX file before export: valid, finite, and how many classes it has.

Its input is checked by export/, which prepends the preprocessing.
"""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from toolchain.errors import ModelError


def graph_class_count(path: Path) -> int | None:
    """The width of the single output [N, classes]; None when the file leaves it open. ModelError when the file is not a
    valid ONNX model, has several outputs, or has weights that are not finite."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ModelError(f"{path}: not a valid ONNX model ({first}); export it again") from error
    outputs = [output.name for output in model.graph.output]
    if len(outputs) != 1:
        raise ModelError(f"{path}: {len(outputs)} outputs ({', '.join(outputs)}); expected one, logits [N, classes]")
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelError(f"{path}: weights that are not finite: '{tensor.name}'; take an earlier checkpoint")
    axes = model.graph.output[0].type.tensor_type.shape.dim
    if len(axes) != 2:
        raise ModelError(f"{path}: output '{outputs[0]}' has {len(axes)} axes; expected logits [N, classes]")
    return axes[1].dim_value or None
