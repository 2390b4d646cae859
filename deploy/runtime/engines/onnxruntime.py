"""ONNX Runtime on any CPU; the reference that other engines are compared with.

Knows nothing of HTTP, batching or bundles. With the hint `throughput` each call stays on its caller's thread and
`threads` of them run at once; with `latency` one call has all the threads.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.runtime.engines import CLOSED, Settings
from toolchain.errors import DeviceError
from toolchain.records.manifest import AS_WRITTEN, Candidate
from toolchain.records.tensors import Array, DType, Feeds, TensorSpec

DTYPES: dict[str, DType] = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}


class OnnxRuntimeEngine:
    """See Engine. It has no static batch sizes: a batch costs in proportion to its rows."""

    batch_sizes = (1, 8, 32)
    pads_batches = True

    def __init__(self, session: Any, version: str, requests: int) -> None:
        self._session = session
        self.inputs, self.outputs = _specs(session.get_inputs()), _specs(session.get_outputs())
        self.version, self.requests = version, requests
        self._names = [spec.name for spec in self.outputs]

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        if self._session is None:
            raise DeviceError(CLOSED)
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None


def open_engine(folder: Path, candidate: Candidate, settings: Settings) -> OnnxRuntimeEngine:
    """The engine of `candidate`; DeviceError when this ONNX Runtime cannot run it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(f"no ONNX Runtime here ({error}); this bundle needs its image") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = settings.threads if settings.hint == "latency" else 1
    options.inter_op_num_threads = 1
    if AS_WRITTEN in candidate.options:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = folder / candidate.files[0]
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base class of their own
        reason = " ".join(str(error).split())
        raise DeviceError(f"{model.name}: ONNX Runtime {onnxruntime.__version__} cannot run it: {reason}") from error
    requests = 1 if settings.hint == "latency" else settings.threads
    return OnnxRuntimeEngine(session, f"onnxruntime {onnxruntime.__version__}", requests)


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            port.name,
            DTYPES[port.type],
            tuple(axis if isinstance(axis, int) else None for axis in port.shape),
        )
        for port in ports
    )
