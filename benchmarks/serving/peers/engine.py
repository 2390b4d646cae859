"""OpenVINO as every peer uses it: the throughput hint, one request more than streams, answers by callback.

The same graph with the same preprocessing inside as our server's; fixed to one picture. On an event loop (`answered`),
where most of these servers live, or in a worker process that answers one after the other (`answer`), as LitServe's.
Imports nothing of ours: it runs in a virtual environment with one peer in it.
"""

import asyncio
import os
from collections import deque
from typing import Any

import numpy as np
import openvino

MODEL = os.environ.get("MODEL", "")
PORT = int(os.environ.get("PORT", "0"))


def compiled(more: dict[str, Any] | None = None) -> Any:
    core = openvino.Core()
    graph = core.read_model(MODEL)
    graph.reshape([1, *(axis.get_length() for axis in list(graph.input().partial_shape)[1:])])
    return core.compile_model(
        graph, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32", **(more or {})}
    )


class Slot:
    """An InferRequest, its memory, and who waits for it."""

    def __init__(self, model: Any) -> None:
        self.request = model.create_infer_request()
        self.input = self.request.get_input_tensor().data
        self.output = self.request.get_output_tensor().data
        self.request.set_callback(self._done, None)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waiting: asyncio.Future[None] | None = None

    def _done(self, _: Any) -> None:
        assert self.loop and self.waiting
        self.loop.call_soon_threadsafe(self.waiting.set_result, None)


class Engine:
    """A picture's bytes, or an array of them -> its logits' bytes."""

    def __init__(self) -> None:
        model = compiled()
        count = model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        self._free = [Slot(model) for _ in range(count)]
        self._queue: deque[asyncio.Future[Slot]] = deque()

    async def answered(self, body: Any) -> bytes:
        loop = asyncio.get_running_loop()
        if self._free:
            slot = self._free.pop()
        else:
            place: asyncio.Future[Slot] = loop.create_future()
            self._queue.append(place)
            slot = await place
        slot.input[:] = np.frombuffer(body, np.uint8).reshape(slot.input.shape)
        slot.loop, slot.waiting = loop, loop.create_future()
        slot.request.start_async()
        await slot.waiting
        logits = slot.output.tobytes()
        if self._queue:
            self._queue.popleft().set_result(slot)
        else:
            self._free.append(slot)
        return logits


class Serial:
    """The same, one after the other: for a process of its own with one thread and one stream."""

    def __init__(self) -> None:
        # Several processes that pin their threads choose the same core
        options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        self._request = compiled(options).create_infer_request()
        self._given = self._request.get_input_tensor().data
        self._found = self._request.get_output_tensor().data

    def answer(self, body: bytes) -> bytes:
        self._given[:] = np.frombuffer(body, np.uint8).reshape(self._given.shape)
        self._request.infer()
        return bytes(self._found.tobytes())
