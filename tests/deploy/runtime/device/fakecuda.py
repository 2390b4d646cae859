"""A CUDA runtime that computes on the host: for the logic of buffers, order, capture and errors, where there is no GPU.

Device memory is host memory at other addresses; a stream runs what it is given when it is synchronized, in order; while
a stream is captured nothing runs. Answers (error, values…), as cuda.bindings.runtime does. Whether a real GPU agrees,
`make test-gpu` tells.
"""

import ctypes
from collections.abc import Callable
from types import SimpleNamespace

Work = Callable[[], None]
Answer = tuple[object, ...]
KINDS = ("host", "device", "stream", "event", "graph", "exec")


class FakeCuda:
    """held: what was allocated or created and not yet given back, by kind; fail: the error that a call answers."""

    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76)

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.held: dict[str, set[int]] = {
            kind: set() for kind in ("host", "device", "stream", "event", "graph", "exec")
        }
        self.launches: list[str] = []
        self._memory: dict[int, ctypes.Array[ctypes.c_ubyte]] = {}
        self._queues: dict[int, list[Work]] = {}
        self._captured: dict[int, list[Work]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._times: dict[int, float] = {}
        self._clock, self._next = 0.0, 1000

    def enqueue(self, stream: int, work: Work) -> None:
        """What a launch does."""
        if stream in self._captured:
            self._captured[stream].append(work)
        else:
            self._queues[stream].append(work)

    def cudaError_t(self, code: int) -> int:  # CUDA's name, as are all below
        return code

    def cudaGetErrorString(self, code: int) -> Answer:
        return 0, f"error {code}, in words".encode()

    def __getattr__(self, name: str) -> Callable[..., Answer]:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        call: Callable[..., Answer] = getattr(type(self), f"_{name[4:]}").__get__(self)

        def answered(*arguments: object) -> Answer:
            if code := self.fail.get(name, 0):
                return (code, None)
            return (0, *call(*arguments))

        return answered

    def _made(self, kind: str) -> int:
        self._next += 1
        self.held[kind].add(self._next)
        return self._next

    def _allocated(self, kind: str, count: int) -> int:
        memory = (ctypes.c_ubyte * count)()
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        self.held[kind].add(address)
        return address

    def _GetDeviceCount(self) -> Answer:
        return (1,)

    def _DeviceGetAttribute(self, which: int, _device: int) -> Answer:
        return ({75: 8, 76: 6}[which],)

    def _DeviceGetPCIBusId(self, length: int, _device: int) -> Answer:
        return (b"00000000:65:00.0".ljust(length, b"\0"),)

    def _HostAlloc(self, count: int, _flags: int) -> Answer:
        return (self._allocated("host", count),)

    def _Malloc(self, count: int) -> Answer:
        return (self._allocated("device", count),)

    def _FreeHost(self, address: int) -> Answer:
        self.held["host"].remove(address)
        return ()

    def _Free(self, address: int) -> Answer:
        self.held["device"].remove(address)
        return ()

    def _StreamCreateWithFlags(self, _flags: int) -> Answer:
        stream = self._made("stream")
        self._queues[stream] = []
        return (stream,)

    def _StreamDestroy(self, stream: int) -> Answer:
        self.held["stream"].remove(stream)
        return ()

    def _MemcpyAsync(self, to: int, source: int, count: int, _kind: int, stream: int) -> Answer:
        self.enqueue(stream, lambda: ctypes.memmove(to, source, count) and None)
        return ()

    def _StreamSynchronize(self, stream: int) -> Answer:
        while self._queues[stream]:
            self._queues[stream].pop(0)()
        return ()

    def _StreamBeginCapture(self, stream: int, _mode: int) -> Answer:
        self._captured[stream] = []
        return ()

    def _StreamEndCapture(self, stream: int) -> Answer:
        graph = self._made("graph")
        self._graphs[graph] = self._captured.pop(stream)
        return (graph,)

    def _GraphInstantiate(self, graph: int, _flags: int) -> Answer:
        made = self._made("exec")
        self._graphs[made] = self._graphs[graph]
        return (made,)

    def _GraphDestroy(self, graph: int) -> Answer:
        self.held["graph"].remove(graph)
        return ()

    def _GraphExecDestroy(self, made: int) -> Answer:
        self.held["exec"].remove(made)
        return ()

    def _GraphLaunch(self, made: int, stream: int) -> Answer:
        self.launches.append("graph")
        for work in self._graphs[made]:
            self.enqueue(stream, work)
        return ()

    def _EventCreateWithFlags(self, _flags: int) -> Answer:
        return (self._made("event"),)

    def _EventDestroy(self, event: int) -> Answer:
        self.held["event"].remove(event)
        return ()

    def _EventRecord(self, event: int, stream: int) -> Answer:
        def recorded() -> None:
            self._clock += 1.0
            self._times[event] = self._clock

        self.enqueue(stream, recorded)
        return ()

    def _EventElapsedTime(self, start: int, end: int) -> Answer:
        return (self._times[end] - self._times[start],)
