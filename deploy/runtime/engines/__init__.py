"""Artifact -> something that answers. One engine a file; the table is read by eye."""

from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import msgspec

from toolchain.errors import DeviceError
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Candidate
from toolchain.records.tensors import Array, Feeds, TensorSpec

TABLE = {
    "openvino": "deploy.runtime.engines.openvino",
    "onnxruntime": "deploy.runtime.engines.onnxruntime",
    "null": "deploy.runtime.engines.null",
}
Hint = Literal["latency", "throughput"]


class Settings(msgspec.Struct, frozen=True):
    """threads: for the whole engine. hint: one request at a time as fast as can be, or many at once.

    cache: a folder for what the engine compiles, or None. infer() may be called from `requests` threads at once.
    pinned: each thread stays on a core of its own, where the engine can do that (OpenVINO). For who measures alone:
    processes that pin choose the same cores.
    """

    threads: int
    hint: Hint = "latency"
    cache: Path | None = None
    pinned: bool = False


class Engine(Protocol):
    """Two facts and one verb. infer() may be called from several threads; feeds were checked by the caller."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str
    requests: int  # how many infer() calls at once keep it busy

    def infer(self, feeds: Feeds) -> dict[str, Array]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Opener(Protocol):
    """The module of an engine."""

    def open_engine(self, folder: Path, candidate: Candidate, settings: Settings) -> Engine: ...


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> Engine:
    """The engine that runs `candidate`, whose files lie in `folder`; DeviceError when it cannot run here."""
    if candidate.backend not in TABLE:
        raise DeviceError(f"no engine '{candidate.backend}' in this container; it has: {', '.join(TABLE)}")
    module: Opener = import_module(TABLE[candidate.backend])
    return module.open_engine(folder, candidate, settings)


def serving_engine(bundle: Bundle, settings: Settings, precision: str | None = None) -> Engine:
    """The engine of the bundle's chosen candidate, or of the one with `precision`."""
    candidate = bundle.manifest.candidate(precision) if precision else bundle.manifest.serving
    return open_engine(bundle.folder, candidate, settings)
