"""Artifact -> something that answers. One engine a file; the table is read by eye."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self, runtime_checkable

import msgspec

from deploy.runtime.device.gpu import Gpu, find_gpu
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
# Whose requests are soonest answered one at a time by all threads, and most of them are by a thread each
DUAL_ENGINE_BACKENDS = ("openvino", "onnxruntime")


def cache_folder() -> Path | None:
    """Set in the GPU image, where compiling takes seconds and the volume is always the same."""
    text = os.environ.get("CACHE_DIR", "")
    return Path(text) if text else None


class Settings(msgspec.Struct, frozen=True):
    """threads: for the whole engine. hint: one request at a time as fast as can be, or many at once.

    cache: a folder for what the engine compiles, or None; if not given, $CACHE_DIR. pinned: each thread stays on a core
    of its own, where the engine can do that (OpenVINO); for who measures alone: processes that pin choose the same.
    """

    threads: int
    hint: Hint = "latency"
    cache: Path | None = msgspec.field(default_factory=cache_folder)
    pinned: bool = False


class Engine(Protocol):
    """Two facts and one verb. infer() may be called from several threads, of which
    `requests` are answered at once; feeds were checked by the caller."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str
    requests: int  # how many infer() calls at once keep it busy
    batch_sizes: tuple[int, ...]  # batches that it is made for
    pads_batches: bool  # whether other batches fill up a form; False: they are answered in pieces

    def infer(self, feeds: Feeds) -> dict[str, Array]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


OnResult = Callable[[dict[str, Array] | Exception], None]


@runtime_checkable
class AsyncEngine(Engine, Protocol):
    """What an engine has that need not be waited for."""

    max_in_flight: int  # how many calls it takes at once: some wait in it, so that it is busy while nobody looks

    def start(self, feeds: Feeds, on_result: OnResult) -> None:
        """Begin on `feeds`; `found` is called once, with the outputs or why there are none, on a thread of the engine's
        that waits for it. The caller sees to it that no more than `held` calls run at once, these and infer()'s."""


@runtime_checkable
class GpuEngine(Protocol):
    """What an engine on a GPU has beside. bus: the GPU's PCI address."""

    bus: str

    def measure(self, feeds: Feeds) -> "GpuTiming":
        """One answer, measured on the GPU."""


def gpu_of(engine: Engine) -> Gpu | None:
    """The GPU that `engine` runs on; None for one that runs on the CPU."""
    return find_gpu(engine.bus) if isinstance(engine, GpuEngine) else None


class EngineModule(Protocol):
    """The module of an engine."""

    def open_engine(self, folder: Path, candidate: Candidate, settings: Settings) -> Engine: ...


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> Engine:
    """The engine that runs `candidate`, whose files lie in `folder`; DeviceError when it cannot run here."""
    if candidate.backend not in TABLE:
        raise DeviceError(f"no engine '{candidate.backend}' in this container; it has: {', '.join(TABLE)}")
    module: EngineModule = import_module(TABLE[candidate.backend])
    return module.open_engine(folder, candidate, settings)


def offline_checks(folder: Path, candidate: Candidate) -> tuple[Check, ...]:
    """What can be told of `candidate` without the device that it is for: nothing, of an engine that needs none."""
    look = getattr(import_module(TABLE[candidate.backend]), "examined", None)
    return tuple(look(folder, candidate)) if look else ()


def serving_engine(bundle: Bundle, settings: Settings, precision: str | None = None) -> Engine:
    """The engine of the bundle's chosen candidate, or of the one with `precision`."""
    candidate = bundle.manifest.candidate(precision) if precision else bundle.manifest.serving
    return open_engine(bundle.folder, candidate, settings)


def serving_engines(bundle: Bundle, settings: Settings, precision: str) -> tuple[Engine, Engine | None]:
    """The engine for a request that is alone and the one for many at once; None: one serves both."""
    most = serving_engine(bundle, msgspec.structs.replace(settings, hint="throughput"), precision)
    if settings.threads == 1 or bundle.manifest.candidate(precision).backend not in DUAL_ENGINE_BACKENDS:
        return most, None
    return serving_engine(bundle, msgspec.structs.replace(settings, hint="latency"), precision), most
