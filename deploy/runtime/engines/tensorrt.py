"""TensorRT on an NVIDIA GPU: a plan in, arrays out.

Knows nothing of HTTP, batching or bundles; device/cuda.py runs it on the GPU. Each batch size that the plan was tuned
for has its own execution context, stream and buffers: addresses and shapes never change, and the whole launch is
replayed as one CUDA graph (by TensorRT for RTX itself; for the classic flavour by cuda.py). Other batches are padded.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploy.runtime.device.cuda import Cuda, GpuTiming, Lane, Launch
from deploy.runtime.engines import CLOSED, Settings
from deploy.runtime.engines.compile_cache import CompileCache
from deploy.runtime.engines.tensorrt_classic import load_or_build_plan, refuse_float_convolutions
from deploy.runtime.engines.tensorrt_plan import TensorRtLibrary, first_error, load_library, one_line
from toolchain.errors import DeviceError, LostDevice
from toolchain.records.certificate import Check
from toolchain.records.manifest import Candidate
from toolchain.records.storage import read_record
from toolchain.records.tensorrt_layers import FORMAT, PlanSpec
from toolchain.records.tensors import Array, Feeds, TensorSpec

REBUILD = "build it for this one: toolchain build RECIPE --target=tensorrt"
LANES = {"latency": 1, "throughput": 3}  # one copies in, one computes, one copies out
TIMED = 64

Lanes = dict[int, Lane]  # by batch


class TensorRtEngine:
    """See Engine. At most `requests` calls run at once. Once the GPU is lost every call raises LostDevice."""

    pads_batches = True

    def __init__(self, cuda: Cuda, library: TensorRtLibrary, plan: Any, settings: Settings, digest: str = "") -> None:
        """digest: of the plan; the key under which TensorRT for RTX's kernels for this device are cached."""
        self._cuda, self._library, self._plan = cuda, library, plan
        self._store, self._cache_name = CompileCache(settings.cache), f"tensorrt-rtx-{digest[:24]}.cache"
        self._config, self._cache = _runtime_config(library, plan, self._store.read(self._cache_name))
        names = [plan.get_tensor_name(place) for place in range(plan.num_io_tensors)]
        mode = library.trt.TensorIOMode.INPUT
        self.inputs = tuple(_spec(library, plan, name) for name in names if plan.get_tensor_mode(name) == mode)
        self.outputs = tuple(_spec(library, plan, name) for name in names if plan.get_tensor_mode(name) != mode)
        ends = plan.get_tensor_profile_shape(self.inputs[0].name, 0)
        self.batch_sizes = tuple(sorted({int(shape[0]) for shape in ends}))
        self.version, self.requests, self.bus = library.version, LANES[settings.hint], cuda.bus
        self._lost = ""
        self._making = Lock()
        self._stack = ExitStack()
        self._free: SimpleQueue[Lanes | None] = SimpleQueue()
        for _ in range(self.requests):
            self._free.put({})

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        arrays = [feeds[spec.name] for spec in self.inputs]
        with self._claim_lanes() as lanes:
            found = [
                self._infer_padded(lanes, form, [array[start : start + size] for array in arrays], size)
                for start, size, form in split_padded(arrays[0].shape[0], self.batch_sizes)
            ]
        answers = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return {spec.name: array for spec, array in zip(self.outputs, answers, strict=True)}

    def measure(self, feeds: Feeds) -> GpuTiming:
        """Time one inference; the batch must be one of the plan's static sizes."""
        arrays = [feeds[spec.name] for spec in self.inputs]
        with self._claim_lanes() as lanes:
            return self._lane(lanes, arrays[0].shape[0]).measure(arrays)

    def inspector_json(self) -> str:
        """The plan's layers as JSON from TensorRT's inspector."""
        inspector = self._plan.create_engine_inspector()
        return str(inspector.get_engine_information(self._library.trt.LayerInformationFormat.JSON))

    def _lane(self, lanes: Lanes, batch_size: int) -> Lane:
        """A batch size is compiled at its first inference and cached at once, since processes get killed."""
        if batch_size not in lanes:
            lane = self._make_lane(batch_size)
            lane.infer([_zeros(spec, batch_size) for spec in self.inputs])
            lanes[batch_size] = lane
            if self._cache is not None:
                self._store.write(self._cache_name, bytes(self._cache.serialize()))
        return lanes[batch_size]

    def _infer_padded(self, lanes: Lanes, batch_size: int, arrays: Sequence[Array], size: int) -> list[Array]:
        lane = self._lane(lanes, batch_size)
        if size == batch_size:
            return lane.infer(arrays)
        padded = [
            np.concatenate([array, np.zeros((batch_size - size, *array.shape[1:]), array.dtype)]) for array in arrays
        ]
        return [answer[:size] for answer in lane.infer(padded)]

    def _make_lane(self, batch_size: int) -> Lane:
        with self._making:  # contexts are made one at a time
            context = self._plan.create_execution_context(self._config)
            if context is None:
                raise DeviceError(
                    f"{self.version} makes no execution context for a batch of {batch_size}: out of memory?"
                )
            for spec in self.inputs:
                if not context.set_input_shape(spec.name, (batch_size, *spec.shape[1:])):
                    raise DeviceError(f"{self.version} refuses a batch of {batch_size} for {spec.name}; {REBUILD}")
            inputs, outputs = (
                [TensorSpec(spec.name, spec.dtype, (batch_size, *spec.shape[1:])) for spec in specs]
                for specs in (self.inputs, self.outputs)
            )
            captured = not self._library.ahead_of_time
            return self._stack.enter_context(Lane(self._cuda, inputs, outputs, _launch(context), captured))

    @contextmanager
    def _claim_lanes(self) -> Iterator[Lanes]:
        lanes = self._free.get()
        try:
            if self._lost:
                raise LostDevice(self._lost)
            if lanes is None:
                raise DeviceError(CLOSED)
            yield lanes
        except LostDevice as error:
            self._lost = str(error)
            raise
        finally:
            self._free.put(lanes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self.requests):  # waits for the calls that are still running
            self._free.get()
        self._free.put(None)
        self._stack.close()


def split_padded(batch: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(start, rows, static size) of the calls that answer a batch, the largest first. A static size is padded where
    more than half of it is used, and the smallest where nothing else fits: of 1, 8 and 32, 45 is 32, 8 and 5 in 8."""
    start = 0
    for form in sorted(sizes, reverse=True):
        while batch - start >= form:
            yield start, form, form
            start += form
        left = batch - start
        if left * 2 > form or (left and form == min(sizes)):
            yield start, left, form
            return


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> TensorRtEngine:
    """The engine of `candidate`; DeviceError: no driver, no GPU, or a plan for another GPU or version."""
    file = folder / candidate.files[0]
    cuda = Cuda()
    cuda.check_device()
    if file.suffix == ".onnx":
        return _open_classic(cuda, folder, candidate, settings)
    return _open_plan(cuda, load_library("rtx"), file.read_bytes(), file.name, settings)


def offline_checks(folder: Path, candidate: Candidate) -> Iterator[Check]:
    """Without a GPU: whether the library loads, and whether the plan is of its version. TensorRT reports a version
    mismatch before it looks for the GPU."""
    file = folder / candidate.files[0]
    expected = "a TensorRT that loads and can read it"
    try:
        found = load_library("classic" if file.suffix == ".onnx" else "rtx")
    except DeviceError as error:
        yield Check("engine", False, str(error), expected)
        return
    if found.ahead_of_time:
        content = file.read_bytes()
        with found.capture_log() as heard:
            runtime = found.trt.Runtime(found.logger)
            runtime.get_engine_validity(content[: runtime.engine_header_size])
        complaints = [one_line(one.text) for one in heard if "created with" in one.text]
        if complaints:
            yield Check("engine", False, complaints[0], expected)
            return
    yield Check("engine", True, f"{found.version}, {file.name}", expected)


def _open_classic(cuda: Cuda, folder: Path, candidate: Candidate, settings: Settings) -> TensorRtEngine:
    found, (name, order_name) = load_library("classic"), candidate.files
    order = read_record(folder / order_name, PlanSpec, FORMAT)

    def speed(content: bytes) -> float:
        with _open_plan(cuda, found, content, name, settings) as engine:
            feeds = {spec.name: _zeros(spec, engine.batch_sizes[0]) for spec in engine.inputs}
            return median(engine.measure(feeds).compute_ms for _ in range(TIMED))

    content = load_or_build_plan(found, (folder / name).read_bytes(), order, CompileCache(settings.cache), speed)
    engine = _open_plan(cuda, found, content, name, settings)
    refuse_float_convolutions(engine.inspector_json(), order)
    return engine


def _open_plan(cuda: Cuda, library: TensorRtLibrary, content: bytes, name: str, settings: Settings) -> TensorRtEngine:
    with library.capture_log() as heard:
        runtime = library.trt.Runtime(library.logger)
        if library.ahead_of_time:
            _check_validity(library, runtime, content, name, cuda.capability)
        plan = runtime.deserialize_cuda_engine(content)
        if plan is None:
            raise DeviceError(f"{name}: {library.version} cannot load it: {first_error(heard)}; {REBUILD}")
    keeps = library.ahead_of_time and settings.cache is not None  # hash a plan of 100 MB only where needed
    return TensorRtEngine(cuda, library, plan, settings, sha256(content).hexdigest() if keeps else "")


def _zeros(spec: TensorSpec, batch: int) -> Array:
    return np.zeros((batch, *(int(axis or 0) for axis in spec.shape[1:])), spec.dtype)


def _check_validity(found: TensorRtLibrary, runtime: Any, content: bytes, name: str, capability: int) -> None:
    """DeviceError for a plan that was built for another GPU, or by another version."""
    validity, why = runtime.get_engine_validity(content[: runtime.engine_header_size])
    if validity == found.trt.EngineValidity.INVALID:
        here = f"{found.version}, a GPU of compute capability {capability / 10}"
        raise DeviceError(f"{name} does not fit this device ({_flag_names(found, why)}); here: {here}; {REBUILD}")


def _flag_names(found: TensorRtLibrary, why: int) -> str:
    """The names of the flags in `why`."""
    kinds = found.trt.EngineInvalidityDiagnostics.__members__
    return ", ".join(name for name, one in kinds.items() if int(one) and why & int(one)) or "no reason given"


def _runtime_config(library: TensorRtLibrary, plan: Any, cache: bytes | None) -> tuple[Any, Any]:
    """How contexts are created: TensorRT for RTX captures graphs itself and caches its kernels for this device."""
    config = plan.create_runtime_config()
    if not library.ahead_of_time:
        return config, None
    config.cuda_graph_strategy = library.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    kept = config.create_runtime_cache()
    if cache is not None:
        kept.deserialize(cache)  # one of another device or version is ignored and made again
    config.set_runtime_cache(kept)
    return config, kept


def _launch(context: Any) -> Launch:
    """Addresses are set at the first call; they never change."""
    known: set[str] = set()

    def launch(addresses: Mapping[str, int], stream: int) -> None:
        for name in addresses.keys() - known:
            context.set_tensor_address(name, addresses[name])
            known.add(name)
        if not context.execute_async_v3(stream):
            raise DeviceError("TensorRT refused to start an inference; see the log above")

    return launch


def _spec(found: TensorRtLibrary, plan: Any, name: str) -> TensorSpec:
    kind = np.dtype(found.trt.nptype(plan.get_tensor_dtype(name))).name
    return TensorSpec(name, kind, tuple(None if axis < 0 else int(axis) for axis in plan.get_tensor_shape(name)))
