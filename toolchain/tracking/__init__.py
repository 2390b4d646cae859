"""`--track`: a build's history in the files or on the server of an experiment tracker.

A tracker is a module with `write_run`, one line in TRACKERS, and an extra of its name; its library is imported only
when it is asked for. An unchanged recipe is built in seconds, so builds that exist are exported by building again.
"""

from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from toolchain.errors import UsageError
from toolchain.installation import EXTRAS, explain_missing
from toolchain.tracking.run import TrackedRun

TRACKERS = {
    "mlflow": "toolchain.tracking.mlflow_run",
    "tensorboard": "toolchain.tracking.tensorboard_run",
    "wandb": "toolchain.tracking.wandb_run",
}
EXPECTED = "expected mlflow:URI, tensorboard:FOLDER or wandb:FOLDER"


class Tracker(Protocol):
    def write_run(self, run: TrackedRun, place: str) -> str:
        """Where it can be looked at, in words."""


class TrackTarget(NamedTuple):
    kind: str
    place: str

    def write(self, run: TrackedRun) -> str:
        """UsageError where the place cannot be written to."""
        tracker = cast("Tracker", import_module(TRACKERS[self.kind]))
        return tracker.write_run(run, self.place)


def parse_track(text: str | None) -> TrackTarget | None:
    """None where nothing is asked for. UsageError for another tracker, a tracker whose library is missing, and a file
    in the folder's place."""
    if text is None:
        return None
    kind, colon, place = text.partition(":")
    if kind not in TRACKERS or not colon or not place:
        raise UsageError(f"--track={text}: {EXPECTED}")
    if missing := explain_missing(*EXTRAS[kind]):
        raise UsageError(f"--track={text}: {missing}")
    if kind != "mlflow" and Path(place).exists() and not Path(place).is_dir():
        raise UsageError(f"--track={text}: {place} is a file; expected a folder")
    return TrackTarget(kind, place)
