"""An engine that answers correctly shaped zeros after a settable delay: the whole pipeline without hardware."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from deploy.runtime.engines import Settings
from toolchain.records.manifest import Candidate
from toolchain.records.tensors import Array, Feeds, TensorSpec

VERSION = "null 1"


class NullArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a null model file, as JSON."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    delay_ms: float = 0.0


class NullEngine:
    version = VERSION
    requests = 1
    batch_sizes = (1, 8, 32)
    pads_batches = True

    def __init__(self, artifact: NullArtifact) -> None:
        self.inputs, self.outputs = artifact.inputs, artifact.outputs
        self._delay_s = artifact.delay_ms / 1000

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        batch = next(iter(feeds.values())).shape[0]
        time.sleep(self._delay_s)
        return {
            spec.name: np.zeros([batch if axis is None else axis for axis in spec.shape], spec.dtype)
            for spec in self.outputs
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> NullEngine:  # noqa: ARG001
    return NullEngine(msgspec.json.decode((folder / candidate.files[0]).read_bytes(), type=NullArtifact))
