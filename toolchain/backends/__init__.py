"""ONNX -> artifact, one device family a file. The table is read by eye; a module is imported when asked for."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from toolchain.backends.calibration import Calibration
from toolchain.backends.rounding import Rounding
from toolchain.errors import UsageError
from toolchain.recipe import Option
from toolchain.records.manifest import Candidate, Precision

TABLE = {
    "openvino": "toolchain.backends.openvino",
    "tensorrt": "toolchain.backends.tensorrt",
    "onnxruntime": "toolchain.backends.onnxruntime",
    "null": "toolchain.backends.null",
}
NO_OPTIONS: Mapping[str, Option] = {}


class Backend(Protocol):
    """A module of this shape. A new one: one file, one line in TABLE, one call of the contract test.

    COMPUTES: its artifacts answer as the model does; False: with anything, and only their timing means something.
    CONTROLS_ACCURACY: it can leave layers in float until int8 loses no more than `max_drop`.
    REASONS: why it has not one or another precision, where there is more to say than that nobody wrote it.
    OPTIONS: what a recipe may set of it under [target.NAME].
    FLOATS: the float precisions that are built unless the recipe names some.
    SEES_PICTURES: those that are made with a look at pictures.
    """

    NAME: str
    PRECISIONS: tuple[Precision, ...]
    REASONS: Mapping[str, str]
    CONTROLS_ACCURACY: bool
    COMPUTES: bool
    OPTIONS: frozenset[str]
    DEFAULT_FLOATS: tuple[Precision, ...]
    NEEDS_IMAGES: tuple[Precision, ...]

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
        """Write the artifact's files into `folder`; the Candidate names them, nothing is measured yet.

        calibration: for int8 and int8d; None where training learned it (the ONNX file holds Q/DQ). rounding: for the
        weight-only ones; None: per-channel scales at that width. small: as few bytes as can be, for a slower start.
        """

    def missing(self) -> str | None:
        """Why this back end cannot run here, in words for a person; None when it can."""

    def stand_in(self, candidate: Candidate) -> Candidate | None:
        """What gives the same answers where the device that `candidate` is for is not this one: its files lie in the
        artifact's folder, and its speed means nothing. None: the candidate runs here."""


def backend(name: str) -> Backend:
    """The back end `name`; UsageError with the known names."""
    if name not in TABLE:
        raise UsageError(f"no target '{name}'; there are: {', '.join(TABLE)}")
    return import_module(TABLE[name])


__all__ = ["TABLE", "Backend", "Calibration", "Rounding", "backend"]
