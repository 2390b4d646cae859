"""OpenVINO on the CPU: an IR file in, arrays out.

Knows nothing of HTTP, batching or bundles. Uses the core library, the CPU plugin and the IR front end, nothing else of
OpenVINO's package. The reasons (measured with 2026.4.1 on an AVX512-VNNI Xeon, interleaved; docs/lab.md):
- A graph with a free batch is not compiled: it is 7 to 20 % slower than a fixed one, and one in int8 answered wrongly
(docs/decisions/0006). There are three static
batch sizes, 1, 8 and 32, each compiled when first needed (0.1 to 0.7 s, with weights of its own); other batches are
split.
- Copying an image into the request's tensor costs 10 us and removes all requirements on its memory (alignment etc.).
- int8 computes what was not quantized in f32: exact, and 8 to 24 % faster than bf16 for the rest on a CPU without AMX.
- Pinning is off unless asked for: processes that pin choose the same core and halve each other's speed.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import pythonapi
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, local
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploy.runtime.device.probe import cpu_isa, cpu_model
from deploy.runtime.engines import CLOSED, OnEngineResult, Settings
from toolchain.errors import DeviceError, RecordError
from toolchain.records.manifest import Candidate
from toolchain.records.packed_weights import unpack
from toolchain.records.tensors import Array, Feeds, TensorSpec

# what the layers that are not int8 are computed in; weights stored at 16, 8, 4, 2 or 1 bits are widened beforehand
HINTS = {
    "fp32": "f32",
    "fp16": "f32",
    "bf16": "bf16",
    "int8": "f32",
    "int8w": "f32",
    "int4w": "f32",
    "int2w": "f32",
    "int1w": "f32",
}
BF16 = ("avx512_bf16", "bf16")  # x86's instructions, ARM's
PACKED = ".packed"
BATCH_SIZES = (32, 8, 1)  # static batch sizes, the largest first; as in TensorRT profiles
_THREAD = local()
UNRESHAPED = 0  # a graph whose batch is fixed already, or that has other free axes


def _keep_thread_state() -> None:
    """Keep Python's state of this OpenVINO thread: otherwise each callback creates and drops it, and with it a memory
    mapping, which interrupts every core."""
    if not hasattr(_THREAD, "state"):
        _THREAD.state = pythonapi.PyGILState_Ensure()


class _InferRequest:
    """An InferRequest and its memory, which is looked up once where shapes are fixed."""

    def __init__(self, request: Any, fixed: bool) -> None:
        self._request, self._fixed = request, fixed
        self._inputs = [tensor.data for tensor in request.input_tensors] if fixed else []
        self._outputs = [tensor.data for tensor in request.output_tensors] if fixed else []
        self._on_done: Callable[[list[Array]], None] | None = None

    def infer(self, arrays: list[Array]) -> list[Array]:
        self._on_done = None
        self._begin(arrays)
        self._request.wait()
        return self._copy_outputs()

    def start(self, arrays: list[Array], done: Callable[[list[Array]], None]) -> None:
        """`done` is called with the outputs, on an OpenVINO thread; never if the call fails (OpenVINO's bindings)."""
        if self._on_done is None:
            self._request.set_callback(self._on_complete, None)
        self._on_done = done
        self._begin(arrays)

    def _on_complete(self, _: None) -> None:
        _keep_thread_state()
        if self._on_done is not None:
            self._on_done(self._copy_outputs())

    def _begin(self, arrays: list[Array]) -> None:
        for view, array in zip(self._inputs if self._fixed else self._resize_inputs(arrays), arrays, strict=True):
            np.copyto(view, array)
        self._request.start_async()

    def _copy_outputs(self) -> list[Array]:
        outputs = self._outputs if self._fixed else [tensor.data for tensor in self._request.output_tensors]
        return [view.copy() for view in outputs]

    def _resize_inputs(self, arrays: list[Array]) -> list[Array]:
        tensors = self._request.input_tensors
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.shape = array.shape
        return [tensor.data for tensor in tensors]


RequestSet = dict[int, _InferRequest]  # one for each batch size used so far


class OpenVinoEngine:
    """See AsyncEngine. At most `max_in_flight` calls run at once, whatever their batch; the next one waits."""

    pads_batches = False

    def __init__(self, core: Any, model: Path, properties: Mapping[str, Any], version: str) -> None:
        self._core, self._model, self._properties = core, model, properties
        graph = read_graph(core, model)
        self.inputs, self.outputs = _specs(graph.inputs), _specs(graph.outputs)
        self.version = version
        self._is_reshaped = all(spec.shape.count(None) == 1 and spec.shape[0] is None for spec in self.inputs)
        self.batch_sizes = tuple(sorted(BATCH_SIZES)) if self._is_reshaped else (1,)
        self._compiled_models: dict[int, Any] = {}
        self._compiling = Lock()
        first = self._compile(BATCH_SIZES[-1] if self._is_reshaped else UNRESHAPED, graph)
        streams = first.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        # One more than streams: while an answer is copied out, the stream already has the next image. And one more, so
        # that no stream waits while Python is busy between two callbacks.
        is_throughput = properties["PERFORMANCE_HINT"] == "THROUGHPUT"
        self.requests, self.max_in_flight = (streams + 1, streams + 2) if is_throughput else (streams, streams)
        self._waiters = ThreadPoolExecutor(self.requests, thread_name_prefix="pieces")
        self._free: SimpleQueue[RequestSet | None] = SimpleQueue()
        for _ in range(self.max_in_flight):
            self._free.put({})

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        arrays = [feeds[spec.name] for spec in self.inputs]
        with self._claim_requests() as requests:
            if not self._is_reshaped:
                found = [self._request(requests, UNRESHAPED).infer(arrays)]
            else:
                found = [
                    self._request(requests, size).infer([array[start : start + size] for array in arrays])
                    for start, size in split_batch(arrays[0].shape[0])
                ]
        answers = found[0] if len(found) == 1 else [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return {spec.name: array for spec, array in zip(self.outputs, answers, strict=True)}

    def start(self, feeds: Feeds, on_result: OnEngineResult) -> None:
        """See AsyncEngine. A batch that must be split, or whose size is not compiled yet, blocks a thread of the
        pool."""
        arrays = [feeds[spec.name] for spec in self.inputs]
        form = arrays[0].shape[0] if self._is_reshaped else UNRESHAPED
        if form not in self._compiled_models:
            self._waiters.submit(self._infer_and_report, feeds, on_result)
            return
        requests = self._free.get()
        try:
            if requests is None:
                raise DeviceError(CLOSED)
            self._request(requests, form).start(arrays, partial(self._on_outputs, requests, on_result))
        except BaseException:
            self._free.put(None if requests is None else {})
            raise

    def _on_outputs(self, requests: RequestSet, on_result: OnEngineResult, answers: list[Array]) -> None:
        self._free.put(requests)
        on_result({spec.name: array for spec, array in zip(self.outputs, answers, strict=True)})

    def _infer_and_report(self, feeds: Feeds, on_result: OnEngineResult) -> None:
        try:
            outputs = self.infer(feeds)
        except Exception as error:
            on_result(error)
        else:
            on_result(outputs)

    def _request(self, requests: RequestSet, batch_size: int) -> _InferRequest:
        if batch_size not in requests:
            requests[batch_size] = _InferRequest(
                self._compile(batch_size).create_infer_request(), fixed=batch_size != UNRESHAPED
            )
        return requests[batch_size]

    @contextmanager
    def _claim_requests(self) -> Iterator[RequestSet]:
        requests = self._free.get()
        try:
            if requests is None:
                raise DeviceError(CLOSED)
            yield requests
        except BaseException:
            # an interrupted request may still be running: it is never used again
            requests = None if requests is None else {}
            raise
        finally:
            self._free.put(requests)

    def _compile(self, batch_size: int, graph: Any = None) -> Any:
        with self._compiling:
            if batch_size not in self._compiled_models:
                graph = read_graph(self._core, self._model) if graph is None else graph
                if batch_size != UNRESHAPED:
                    graph.reshape({spec.name: [batch_size, *spec.shape[1:]] for spec in self.inputs})
                self._compiled_models[batch_size] = self._core.compile_model(graph, "CPU", dict(self._properties))
            return self._compiled_models[batch_size]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self.max_in_flight):  # waits for the calls that are still running
            self._free.get()
        self._free.put(None)
        self._compiled_models.clear()


def split_batch(batch: int) -> Iterator[tuple[int, int]]:
    """(start, size) of the static batches that a batch is split into: 45 is 32, 8 and five times 1."""
    start = 0
    for size in BATCH_SIZES:
        while batch - start >= size:
            yield start, size
            start += size


def read_graph(core: Any, model: Path) -> Any:
    """The graph in `model`: an IR's text with its constants next to it, or both packed in one file."""
    if model.suffix != PACKED:
        return core.read_model(model)
    text, constants = unpack(model.read_bytes(), model.name)
    return core.read_model(text, _openvino().Tensor(constants))


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> OpenVinoEngine:
    """The engine of `candidate`; DeviceError when this CPU or this OpenVINO cannot run it."""
    openvino = _openvino()
    _check_precision(candidate)
    core = openvino.Core()
    model = folder / candidate.files[0]
    try:
        return OpenVinoEngine(core, model, _properties(candidate, settings), f"openvino {_release(openvino)}")
    except RecordError as error:
        raise DeviceError(str(error)) from error
    except RuntimeError as error:
        raise DeviceError(
            f"{model.name}: OpenVINO {_release(openvino)} cannot run it here: {_last_line(error)}; build it again"
        ) from error


def _openvino() -> Any:
    """The package, its telemetry kept from loading (where it is installed, importing it reports the import)."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: Python's way to bar an import
    try:
        import openvino
    except ImportError as error:
        raise DeviceError(f"no OpenVINO here ({error}); this bundle needs the image for target openvino") from error
    return openvino


def _release(openvino: Any) -> str:
    return str(openvino.get_version()).split("-")[0]


def _check_precision(candidate: Candidate) -> None:
    """OpenVINO computes in f32, silently, where it has no bf16 at all: what is measured would then be fp32. By AVX512
    alone it plays bf16, 2.8 times slower than f32 (ResNet-18), and Manifest.needs would refuse to serve it."""
    if candidate.precision not in HINTS:
        raise DeviceError(f"engine openvino runs {', '.join(HINTS)}; not {candidate.precision}; build it again")
    if candidate.precision == "bf16" and not {*BF16} & {*cpu_isa()}:
        raise DeviceError(
            f"{candidate.files[0]} is to run in bf16; this CPU ({cpu_model() or 'unknown model'}) lacks {BF16[0]}; "
            "serve fp32 or int8 here"
        )


def _properties(candidate: Candidate, settings: Settings) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[candidate.precision],
        "INFERENCE_NUM_THREADS": settings.threads,
        "PERFORMANCE_HINT": settings.hint.upper(),
        "ENABLE_CPU_PINNING": settings.pinned,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # or integer weights would draw activations to int8, unmeasured
    }
    return properties if settings.cache is None else properties | {"CACHE_DIR": str(settings.cache)}


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            port.any_name,
            np.dtype(port.element_type.to_dtype()).name,
            tuple(None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape),
        )
        for port in ports
    )


def _last_line(error: RuntimeError) -> str:
    """OpenVINO's messages are a stack of source places; the last line that says something is the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
