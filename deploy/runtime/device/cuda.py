"""The CUDA runtime from Python: pinned and device memory, streams, graphs, events. Knows nothing of TensorRT: it runs
any launch on a stream, given the addresses of its inputs and outputs.

CUDA Runtime API 13, by `cuda.bindings`, whose calls return (error, values…). After some errors the whole process's CUDA
context is dead ("sticky"): then LostDevice is raised, and only a new process helps.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from importlib import import_module
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from toolchain.errors import DeviceError, LostDevice
from toolchain.records.tensors import Array, TensorSpec

NO_DRIVER, NO_DEVICE = 35, 100
# what ends the context: "the process must be terminated and relaunched", CUDA Runtime API, cudaError_t
STICKY = frozenset({214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721})
INSTALL = (
    "install NVIDIA's driver (580 or later) and the NVIDIA Container Toolkit on the host, and start the container with "
    "--gpus=all"
)
Launch = Callable[[Mapping[str, int], int], None]  # (device address by tensor, stream)


class Cuda:
    """CUDA calls that raise. runtime: the module `cuda.bindings.runtime`, or a test's substitute."""

    def __init__(self, runtime: Any = None) -> None:
        self.runtime = runtime or _runtime()

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The call's value (a tuple if several, None if none); DeviceError, LostDevice."""
        error, *values = getattr(self.runtime, name)(*arguments)
        if int(error):
            raise self._error(name, int(error))
        return values[0] if len(values) == 1 else tuple(values) or None

    def _error(self, name: str, code: int) -> DeviceError:
        if code == NO_DRIVER:
            return DeviceError(f"no CUDA driver ({code}): {INSTALL}")
        if code == NO_DEVICE:
            return DeviceError(f"no CUDA device ({code}): {INSTALL}")
        text = self.runtime.cudaGetErrorString(self.runtime.cudaError_t(code))[1]
        words = text.decode() if isinstance(text, bytes) else str(text)
        if code in STICKY:
            return LostDevice(f"CUDA error {code} in {name} ({words}): this process has lost the GPU; start it again")
        return DeviceError(f"CUDA error {code} in {name}: {words}")

    def check_device(self) -> None:
        """DeviceError where there is no driver or no GPU."""
        self("cudaGetDeviceCount")

    @cached_property
    def bus(self) -> str:
        """PCI address of the GPU, which NVML uses too."""
        return str(self("cudaDeviceGetPCIBusId", 32, 0).decode().partition("\0")[0])

    @cached_property
    def capability(self) -> int:
        """Compute capability of the GPU, such as 86."""
        kind = self.runtime.cudaDeviceAttr
        major = self("cudaDeviceGetAttribute", kind.cudaDevAttrComputeCapabilityMajor, 0)
        return 10 * int(major) + int(self("cudaDeviceGetAttribute", kind.cudaDevAttrComputeCapabilityMinor, 0))


class GpuTiming(NamedTuple):
    """Milliseconds of one inference on the GPU: computation alone, and with the copies to and from the GPU."""

    compute_ms: float
    total_ms: float


class _Buffer:
    """A tensor of fixed shape in pinned host memory and on the GPU."""

    def __init__(self, cuda: Cuda, spec: TensorSpec, stack: ExitStack) -> None:
        shape = tuple(int(axis or 0) for axis in spec.shape)
        dtype = np.dtype(spec.dtype)
        self.name, self.bytes = spec.name, int(np.prod(shape)) * dtype.itemsize
        pinned = int(cuda("cudaHostAlloc", self.bytes, cuda.runtime.cudaHostAllocDefault))
        stack.callback(cuda.runtime.cudaFreeHost, pinned)
        self.device = int(cuda("cudaMalloc", self.bytes))
        stack.callback(cuda.runtime.cudaFree, self.device)
        self.pinned = pinned
        memory = (ctypes.c_ubyte * self.bytes).from_address(pinned)
        self.host: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)


class Lane:
    """A stream with buffers of its own for one batch size, used by one thread at a time. uses_graph: the launch is
    captured as a CUDA graph at the second inference (the first warms up) and replayed from then on; its addresses never
    change."""

    def __init__(
        self,
        cuda: Cuda,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        launch: Launch,
        uses_graph: bool = True,
    ) -> None:
        self._cuda, self._launch, self._uses_graph = cuda, launch, uses_graph
        self._warm, self._graph = False, 0
        self._stack = ExitStack()
        with self._stack:
            self.stream = int(cuda("cudaStreamCreateWithFlags", cuda.runtime.cudaStreamNonBlocking))
            self._stack.callback(cuda.runtime.cudaStreamDestroy, self.stream)
            self._inputs = [_Buffer(cuda, spec, self._stack) for spec in inputs]
            self._outputs = [_Buffer(cuda, spec, self._stack) for spec in outputs]
            self._addresses = {buffer.name: buffer.device for buffer in (*self._inputs, *self._outputs)}
            self._stack = self._stack.pop_all()

    def infer(self, arrays: Sequence[Array]) -> list[Array]:
        """Copy in, launch, copy out; returns new arrays."""
        self._fill_inputs(arrays)
        self._copy_in()
        self._run()
        self._copy_out()
        self._cuda("cudaStreamSynchronize", self.stream)
        return [buffer.host.copy() for buffer in self._outputs]

    def measure(self, arrays: Sequence[Array]) -> GpuTiming:
        """Time one inference by CUDA events."""
        self._fill_inputs(arrays)
        with ExitStack() as stack:
            start, given, computed, end = (self._event(stack) for _ in range(4))
            self._cuda("cudaEventRecord", start, self.stream)
            self._copy_in()
            self._cuda("cudaEventRecord", given, self.stream)
            self._run()
            self._cuda("cudaEventRecord", computed, self.stream)
            self._copy_out()
            self._cuda("cudaEventRecord", end, self.stream)
            self._cuda("cudaStreamSynchronize", self.stream)
            compute_ms = self._cuda("cudaEventElapsedTime", given, computed)
            return GpuTiming(float(compute_ms), float(self._cuda("cudaEventElapsedTime", start, end)))

    def _event(self, stack: ExitStack) -> int:
        made = int(self._cuda("cudaEventCreateWithFlags", 0))
        stack.callback(self._cuda.runtime.cudaEventDestroy, made)
        return made

    def _fill_inputs(self, arrays: Sequence[Array]) -> None:
        for buffer, array in zip(self._inputs, arrays, strict=True):
            np.copyto(buffer.host, array, casting="no")

    def _copy_in(self) -> None:
        way = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        for buffer in self._inputs:
            self._cuda("cudaMemcpyAsync", buffer.device, buffer.pinned, buffer.bytes, way, self.stream)

    def _copy_out(self) -> None:
        way = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for buffer in self._outputs:
            self._cuda("cudaMemcpyAsync", buffer.pinned, buffer.device, buffer.bytes, way, self.stream)

    def _run(self) -> None:
        if self._uses_graph and self._warm and not self._graph:
            self._graph = self._capture_graph()
        if self._graph:
            self._cuda("cudaGraphLaunch", self._graph, self.stream)
        else:
            self._launch(self._addresses, self.stream)
        self._warm = True

    def _capture_graph(self) -> int:
        """The launch as a graph that can be replayed; thread-local capture, since other lanes go on meanwhile."""
        mode = self._cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda("cudaStreamBeginCapture", self.stream, mode)
        try:
            self._launch(self._addresses, self.stream)
        finally:
            graph = self._cuda("cudaStreamEndCapture", self.stream)
        try:
            made = self._cuda("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.runtime.cudaGraphDestroy(graph)
        self._stack.callback(self._cuda.runtime.cudaGraphExecDestroy, made)
        return int(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _runtime() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise DeviceError(f"no cuda.bindings here ({error}); bundles for tensorrt need their image") from error
