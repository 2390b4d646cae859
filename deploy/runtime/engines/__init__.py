"""Artifact -> engine. One engine per file; the table is explicit."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import msgspec

from deploy.runtime.device.gpu import Gpu, find_gpu
from deploy.runtime.engines.saturation import saturation_refusal
from toolchain.errors import DeviceError
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Check
from toolchain.records.manifest import Candidate
from toolchain.records.tensors import Array, Feeds, TensorSpec

if TYPE_CHECKING:
    from deploy.runtime.device.cuda import GpuTiming

CLOSED = "the engine is closed: infer() was called after its `with` block"
TABLE = {
    "openvino": "deploy.runtime.engines.openvino",
    "tensorrt": "deploy.runtime.engines.tensorrt",
    "onnxruntime": "deploy.runtime.engines.onnxruntime",
    "null": "deploy.runtime.engines.null",
}
Hint = Literal["latency", "throughput"]
# where one request is fastest on all threads, and many requests are on a thread each
DUAL_ENGINE_BACKENDS = ("openvino", "onnxruntime")


def cache_folder() -> Path | None:
    """$CACHE_DIR, which the GPU image sets: compiling takes seconds there."""
    text = os.environ.get("CACHE_DIR", "")
    return Path(text) if text else None


class Settings(msgspec.Struct, frozen=True):
    """threads: of the whole engine. hint: optimise for one request at a time, or for many at once.

    cache: a folder for compiled models, or None; by default $CACHE_DIR. pinned: each thread stays on its own core where
    the engine supports it (OpenVINO); only for measuring alone, since processes that pin choose the same cores.
    saturating: open a candidate whose sums saturate on this CPU too: to measure it, never to serve it.
    """

    threads: int
    hint: Hint = "latency"
    cache: Path | None = msgspec.field(default_factory=cache_folder)
    pinned: bool = False
    saturating: bool = False


class Engine(Protocol):
    """infer() may be called from several threads, `requests` of which are answered at once; the caller has checked the
    feeds."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str
    requests: int  # concurrent infer() calls that keep the engine busy
    batch_sizes: tuple[int, ...]  # static batch sizes that it is compiled for
    pads_batches: bool  # whether other batches are padded to a static size; False: they are split

    def infer(self, feeds: Feeds) -> dict[str, Array]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


OnEngineResult = Callable[[dict[str, Array] | Exception], None]


@runtime_checkable
class AsyncEngine(Engine, Protocol):
    """An engine that calls back instead of blocking."""

    max_in_flight: int  # concurrent calls that it takes: some wait inside, so that it stays busy between callbacks

    def start(self, feeds: Feeds, on_result: OnEngineResult) -> None:
        """Start on `feeds`; `on_result` is called once, with the outputs or the error, on an engine thread that waits
        for it. The caller keeps the number of concurrent calls, these and infer()'s, within `max_in_flight`."""


@runtime_checkable
class GpuEngine(Protocol):
    """An engine on a GPU. bus: the GPU's PCI address."""

    bus: str

    def measure(self, feeds: Feeds) -> "GpuTiming":
        """Time one inference on the GPU."""


def gpu_of(engine: Engine) -> Gpu | None:
    """The GPU that `engine` runs on; None for a CPU engine."""
    return find_gpu(engine.bus) if isinstance(engine, GpuEngine) else None


class EngineModule(Protocol):
    """The module of an engine."""

    def open_engine(self, folder: Path, candidate: Candidate, settings: Settings) -> Engine: ...


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> Engine:
    """The engine that runs `candidate`, whose files lie in `folder`; DeviceError when it cannot run here."""
    if candidate.backend not in TABLE:
        raise DeviceError(f"no engine '{candidate.backend}' in this container; it has: {', '.join(TABLE)}")
    if not settings.saturating and (reason := saturation_refusal(candidate)):
        raise DeviceError(reason)
    module: EngineModule = import_module(TABLE[candidate.backend])
    return module.open_engine(folder, candidate, settings)


def offline_checks(folder: Path, candidate: Candidate) -> tuple[Check, ...]:
    """The checks of `candidate` that need no device; none for engines that run on any CPU."""
    look = getattr(import_module(TABLE[candidate.backend]), "offline_checks", None)
    return tuple(look(folder, candidate)) if look else ()


def serving_engine(bundle: Bundle, settings: Settings, precision: str | None = None) -> Engine:
    """The engine of the bundle's chosen candidate, or of the one with `precision`."""
    candidate = bundle.manifest.candidate(precision) if precision else bundle.manifest.serving
    return open_engine(bundle.folder, candidate, settings)


def serving_engines(bundle: Bundle, settings: Settings, precision: str) -> tuple[Engine, Engine | None]:
    """The latency engine and the throughput engine; None: one engine serves both."""
    most = serving_engine(bundle, msgspec.structs.replace(settings, hint="throughput"), precision)
    if settings.threads == 1 or bundle.manifest.candidate(precision).backend not in DUAL_ENGINE_BACKENDS:
        return most, None
    return serving_engine(bundle, msgspec.structs.replace(settings, hint="latency"), precision), most
