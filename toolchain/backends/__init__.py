"""ONNX -> artifact, one module per engine. The table maps a target to its module, which is imported when requested."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolchain.backends.calibration import Calibration
from toolchain.backends.rounding import Rounding
from toolchain.errors import UsageError
from toolchain.recipe import Option
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.saturation import Saturation

TABLE = {
    "openvino": "toolchain.backends.openvino",
    "tensorrt": "toolchain.backends.tensorrt",
    "onnxruntime": "toolchain.backends.onnxruntime",
    "null": "toolchain.backends.null",
}
NO_OPTIONS: Mapping[str, Option] = {}


class Backend(Protocol):
    """The interface of a back-end module. A new one takes one file, a line in TABLE and a call of the contract test.

    COMPUTES: its artifacts return the model's outputs; False: any outputs, and only their timing is meaningful.
    CONTROLS_ACCURACY: it can leave layers in float until int8 loses no more than `max_drop`.
    REASONS: why it lacks a precision, where there is a technical reason.
    OPTIONS: the keys that a recipe may set under [target.NAME].
    DEFAULT_FLOATS: the float precisions that are built unless the recipe names some.
    NEEDS_IMAGES: the float precisions that need calibration images.
    """

    NAME: str
    PRECISIONS: tuple[Precision, ...]
    REASONS: Mapping[str, str]
    CONTROLS_ACCURACY: bool
    COMPUTES: bool
    OPTIONS: frozenset[str]
    DEFAULT_FLOATS: tuple[Precision, ...]
    NEEDS_IMAGES: tuple[Precision, ...]

    def check(self, onnx: Path, options: Mapping[str, Option] = NO_OPTIONS) -> None:
        """BackendError: why the target's engine would not take this graph. It takes seconds and leaves nothing: it is
        called with the untrained model, before anything trains."""

    def build(
        self,
        onnx: Path,
        folder: Path,
        precision: Precision,
        calibration: Calibration | None,
        rounding: Rounding | None = None,
        small: bool = False,
        options: Mapping[str, Option] = NO_OPTIONS,
    ) -> Candidate:
        """Write the artifact's files into `folder` and return the Candidate that names them; it measures nothing.

        calibration: for int8 and int8d; None where the ONNX file contains Q/DQ from training. rounding: for weight-only
        precisions; None: per-channel scales at that width. small: as few bytes as possible, for a slower start.
        """

    def predict_saturation(
        self, onnx: Path, folder: Path, candidate: Candidate, images: Callable[[], NDArray[np.uint8]]
    ) -> Saturation | None:
        """What the artifact in `folder`, built from `onnx`, does on CPUs that add products of 8-bit numbers at 16 bits;
        None where it has none or runs on no CPU. images: uint8 [N, height, width, channels], asked for only where the
        weights leave it open."""

    def missing(self) -> str | None:
        """Why this back end cannot run on this machine, as a sentence; None when it can."""

    def stand_in(self, candidate: Candidate) -> Candidate | None:
        """A candidate with the same outputs for a machine without the device that `candidate` needs. Its files are in
        the artifact's folder; its speed is meaningless. None: `candidate` runs on this machine."""


def backend(name: str) -> Backend:
    """The back end `name`; UsageError lists the known names."""
    if name not in TABLE:
        raise UsageError(f"no target '{name}'; the targets are: {', '.join(TABLE)}")
    return import_module(TABLE[name])


__all__ = ["TABLE", "Backend", "Calibration", "Rounding", "backend"]
