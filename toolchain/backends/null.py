"""ONNX -> the null engine's file: the graph's inputs and outputs, and a delay that stands for computation.

Knows nothing of recipes or bundles. For end-to-end tests without hardware, and for a release that is slower on purpose.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import graph_specs, refuse_other_precisions
from toolchain.backends.rounding import Rounding
from toolchain.errors import BackendError
from toolchain.recipe import Option
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.saturation import Saturation
from toolchain.records.storage import encode_record, write_atomically
from toolchain.records.tensors import TensorSpec

NAME = "null"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
REASONS: dict[str, str] = {}
CONTROLS_ACCURACY = False
COMPUTES = False
DELAY = "delay_ms"
OPTIONS = frozenset({DELAY})
DEFAULT_FLOATS: tuple[Precision, ...] = ("fp32", "bf16")
NEEDS_IMAGES: tuple[Precision, ...] = ()
FILE = "model.null.json"


class NullModel(msgspec.Struct, frozen=True):
    """The file that deploy.runtime.engines.null reads (its NullArtifact); a back end may not import that module."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delay_ms: float = 0.0


def missing() -> str | None:
    return None


def stand_in(candidate: Candidate) -> Candidate | None:  # noqa: ARG001  # Backend's shape
    """None: it runs on any machine."""
    return None


def predict_saturation(
    onnx: Path,  # noqa: ARG001  # Backend's shape
    folder: Path,  # noqa: ARG001
    candidate: Candidate,  # noqa: ARG001
    images: Callable[[], NDArray[np.uint8]],  # noqa: ARG001
) -> Saturation | None:
    """None: it computes nothing."""
    return None


def check(onnx: Path, options: Mapping[str, Option] = {}) -> None:  # Backend's shape; never changed
    """See Backend: any graph."""


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,  # noqa: ARG001  # Backend's shape
    rounding: Rounding | None = None,  # noqa: ARG001
    small: bool = False,  # noqa: ARG001
    options: Mapping[str, Option] = {},  # never changed
) -> Candidate:
    """Write model.null.json, which all precisions share; BackendError when `onnx` is not an ONNX file. options:
    delay_ms, how long each call takes, whatever its batch."""
    delay_ms = options.get(DELAY, 0.0)
    if isinstance(delay_ms, bool) or not isinstance(delay_ms, int | float):
        raise BackendError(f"[target.null] {DELAY} = {delay_ms!r}: expected a number of milliseconds")
    refuse_other_precisions(NAME, PRECISIONS, precision, REASONS)
    content = encode_record(NullModel(*graph_specs(onnx), delay_ms))
    write_atomically(folder / FILE, content)
    return Candidate(precision, NAME, (FILE,), len(content), options={DELAY: delay_ms})
