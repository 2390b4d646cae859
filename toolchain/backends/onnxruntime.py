"""ONNX -> the same ONNX, for any CPU that ONNX Runtime runs on; also the reference of every parity check.

Knows nothing of recipes or bundles. fp32 only: its int8 was slower than its fp32 on small nets (serving.md).
"""

from importlib.util import find_spec
from pathlib import Path

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import graph_specs, refuse_other_precisions
from toolchain.records.files import write_whole
from toolchain.records.manifest import Candidate, Precision

NAME = "onnxruntime"
PRECISIONS: tuple[Precision, ...] = ("fp32",)
COMPUTES = True
FILE = "model.onnx"


def missing() -> str | None:
    return None if find_spec("onnxruntime") else "ONNX Runtime is not installed; run make setup"


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,  # noqa: ARG001  # Backend's shape
) -> Candidate:
    """Copy `onnx` as model.onnx; BackendError when it is no ONNX file."""
    refuse_other_precisions(NAME, PRECISIONS, precision)
    graph_specs(onnx)
    content = onnx.read_bytes()
    write_whole(folder / FILE, content)
    return Candidate(precision, NAME, (FILE,), len(content))
