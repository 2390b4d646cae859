"""torch -> ONNX with the preprocessing folded into the graph, and the check that both give the same outputs."""

from toolchain.export.from_onnx import onnx_from_onnx
from toolchain.export.from_torch import onnx_from_torch
from toolchain.export.qdq import has_qat_layers
from toolchain.export.verify import (
    check_classes,
    check_converted,
    check_onnx,
    ort_accuracy,
    ort_logits,
    ort_scores,
    torch_logits,
)

__all__ = [
    "check_classes",
    "check_converted",
    "check_onnx",
    "has_qat_layers",
    "onnx_from_onnx",
    "onnx_from_torch",
    "ort_accuracy",
    "ort_logits",
    "ort_scores",
    "torch_logits",
]
