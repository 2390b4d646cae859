"""One inference request, from its body to its reply: parse, decode, queue, infer, encode, each of them timed.

What costs more than some hundred microseconds (pictures, long JSON) is done on a pool's thread, never on the event
loop's. Knows nothing of sockets or of which URL was asked.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from deploy.runtime.answers import answer_body, picture_body
from deploy.runtime.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.messages import Reply, Request, Send, error_reply
from deploy.runtime.metrics import Metrics
from deploy.runtime.service import Answer, EngineFault, Expired, Outcome, Service, Unavailable
from deploy.runtime.wire import Call, Wanted, call_from_body
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

ResultT = TypeVar("ResultT")
LONG_BYTES = 16 << 10  # of JSON, in or out: about a millisecond
HEADER_LENGTH = b"inference-header-content-length"


class Desk:
    """What all requests share. timeout_s: how long one may wait in the queue, if it does not ask for less."""

    def __init__(self, bundle: Bundle, health: Health, metrics: Metrics, log: Log, timeout_s: float) -> None:
        self.bundle, self.health, self.metrics, self.log, self.timeout_s = bundle, health, metrics, log, timeout_s
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self.in_flight = 0

    def answer(self, request: Request, send: Send) -> None:
        """Answer an inference request by `send`, now or later."""
        try:
            service = self.health.serving()
            if request.headers.get(b"content-encoding", b"identity") != b"identity":
                raise RequestError("Content-Encoding is not supported here; send the body as it is")
            service.admit()
        except ToolchainError as error:
            self.refuse(error, send)
            return
        self.in_flight += 1
        exchange = Exchange(self, service, request, send)
        if exchange.is_picture or _json_bytes(request) > LONG_BYTES:
            self.pool.submit(exchange.begin)
        else:
            exchange.begin()

    def refuse(self, error: ToolchainError, send: Send, seconds: float = 0.0) -> None:
        """seconds: what was spent on the request all the same."""
        reply, reason = reply_for(error)
        self.metrics.rejections[reason] += 1
        self.metrics.failures += 1
        self.metrics.failed_s += seconds
        if reply.status == 500:
            self.log.write("error", "fault", message=str(error))
        send(reply)


def _json_bytes(request: Request) -> int:
    length = request.headers.get(HEADER_LENGTH, b"")
    return int(length) if _is_size(length) else len(request.body)


def _is_size(text: bytes) -> bool:
    """Python refuses to read a number of thousands of digits; no size here has more than eleven."""
    return text.isdigit() and len(text) < 12


def reply_for(error: ToolchainError) -> tuple[Reply, str]:
    """The reply to a request that got no inference, and the reason's name."""
    match error:
        case RequestError():
            return error_reply(400, str(error)), "bad_request"
        case Unavailable():
            return error_reply(503, str(error), (("Retry-After", str(error.retry_after_s)),)), error.reason
        case Expired():
            return error_reply(504, str(error)), "deadline"
        case _:
            return error_reply(500, str(error)), "engine_fault"


class Exchange:
    """An admitted request; `begin` may run on any thread, `_finish` runs on the loop's."""

    def __init__(self, desk: Desk, service: Service, request: Request, send: Send) -> None:
        self._desk, self._service, self._request, self._send = desk, service, request, send
        self._started = time.perf_counter()
        self._deadline = self._started + desk.timeout_s
        self._times: dict[str, float] = {}
        self.is_picture = request.headers.get(b"content-type", b"").startswith(b"image/")

    def begin(self) -> None:
        """Parse, decode, submit."""
        try:
            self._check_time()
            self._call = self._timed("parse", self._parsed)
            if self._call.timeout_us is not None:
                self._deadline = min(self._deadline, self._started + self._call.timeout_us / 1e6)
            feeds = self._call.feeds
            if self._call.pictures:
                feeds = self._timed("decode", self._decoded)
            self._service.submit(feeds, self._done, self._deadline - time.perf_counter())
        except Exception as error:  # also a bug of ours: the client must hear of it, its place must be given back
            self._service.release()
            known = error if isinstance(error, ToolchainError) else EngineFault(f"unexpected: {error!r:.300}")
            self._desk.loop.call_soon_threadsafe(self._finish, known, None)

    def _check_time(self) -> None:
        """Waiting for a thread that decodes counts like waiting for the engine."""
        now = time.perf_counter()
        if now > self._deadline:
            waited_ms = (now - self._started) * 1e3
            raise Expired(f"waited {waited_ms:.0f} ms to be decoded, past its time; send less, or try again later")

    def _timed(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        began = time.perf_counter()
        result = work()
        self._times[stage] = time.perf_counter() - began
        return result

    def _parsed(self) -> Call:
        manifest = self._desk.bundle.manifest
        if self.is_picture:
            wanted = tuple(Wanted(spec.name) for spec in manifest.outputs)
            return Call({}, (bytes(self._request.body),), wanted)
        length = self._request.headers.get(HEADER_LENGTH)
        if length is not None and not _is_size(length):
            raise RequestError("Inference-Header-Content-Length: expected a whole number of bytes")
        header_bytes = None if length is None else int(length)
        return call_from_body(self._request.body, header_bytes, manifest.inputs, manifest.outputs)

    def _decoded(self) -> dict[str, Array]:
        from deploy.runtime.pictures import picture_array  # Pillow is loaded by the first picture

        manifest, pictures = self._desk.bundle.manifest, self._call.pictures
        spec, preprocessing = manifest.inputs[0], manifest.preprocessing
        if len(manifest.inputs) > 1 or spec.dtype != "uint8" or spec.shape != (None, *preprocessing.shape):
            raise RequestError("this model does not take pictures; send tensors (GET the model's metadata)")
        if len(pictures) > self._service.max_batch:
            raise RequestError(f"expected at most {self._service.max_batch} pictures, got {len(pictures)}")
        arrays = []
        for picture in pictures:
            self._check_time()
            arrays.append(picture_array(picture, preprocessing))
        return {spec.name: np.stack(arrays)}

    def _done(self, outcome: Outcome) -> None:
        """On a worker's thread: hand the outcome to the loop, a long one by way of the pool."""
        if isinstance(outcome, Answer) and sum(output.size for output in outcome.outputs.values()) > LONG_BYTES // 8:
            self._desk.pool.submit(self._encode, outcome)
        else:
            self._desk.loop.call_soon_threadsafe(self._encode, outcome)

    def _encode(self, outcome: Outcome) -> None:
        reply: Reply | None = None
        if isinstance(outcome, Answer):
            self._times |= {"queue": outcome.queue_s, "infer": outcome.infer_s}
            try:
                reply = self._timed("encode", partial(self._reply, outcome))
            except Exception as error:  # an engine's answer that cannot be told, or a bug: a 500, not a hung client
                outcome = EngineFault(f"the answer cannot be encoded: {error!r:.300}")
        self._desk.loop.call_soon_threadsafe(self._finish, outcome, reply)

    def _reply(self, answer: Answer) -> Reply:
        manifest = self._desk.bundle.manifest
        if self.is_picture:
            times_ms = {stage: round(seconds * 1e3, 3) for stage, seconds in self._times.items() if stage != "parse"}
            return Reply(200, picture_body(answer.outputs, manifest.name, manifest.release, manifest.labels, times_ms))
        body, header = answer_body(self._call, answer.outputs, manifest.name, manifest.release, manifest.labels)
        if header is None:
            return Reply(200, body)
        return Reply(200, body, "application/octet-stream", (("Inference-Header-Content-Length", str(header)),))

    def _finish(self, outcome: Outcome, reply: Reply | None) -> None:
        self._desk.in_flight -= 1
        if reply is None or not isinstance(outcome, Answer):
            error = outcome if isinstance(outcome, ToolchainError) else EngineFault("no reply")
            self._desk.refuse(error, self._send, time.perf_counter() - self._started)
            return
        metrics = self._desk.metrics
        metrics.pictures += outcome.batch
        metrics.last_inference_s = time.time()
        metrics.batches.observe(outcome.batch)
        for stage, seconds in self._times.items():
            metrics.stages[stage].observe(seconds)
        self._send(reply)
        metrics.infer_requests.observe(time.perf_counter() - self._started)
