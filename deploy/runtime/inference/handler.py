"""One inference, whatever protocol asked for it: parse, decode, queue, infer, encode, each of them timed.

What costs more than some hundred microseconds (pictures, long JSON) is done on a pool's thread, never on the event
loop's. Knows nothing of HTTP, gRPC or sockets: a Talk does.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import get_ident
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from deploy.runtime.inference.callback_queue import CallbackQueue
from deploy.runtime.inference.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.header_cache import HeaderCache
from deploy.runtime.protocol.requests import InferenceRequest
from deploy.runtime.protocol.shared_memory import SharedRegions
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, EngineFault, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from deploy.runtime.scheduling.service import Service
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

ResultT = TypeVar("ResultT")
ReplyT = TypeVar("ReplyT")
LONG_BYTES = 16 << 10  # of JSON, in or out: about a millisecond
TRACE_HEADERS = ("traceparent", "tracestate")  # headers (w3.org/TR/trace-context)


class SpanAttributes(NamedTuple):
    """A request as traces name it (OpenTelemetry's semantic conventions); headers: those of TRACE."""

    name: str
    attributes: dict[str, str | int]
    headers: dict[str, str]


class RequestAdapter(Protocol[ReplyT]):
    """A request as its protocol has it. heavy: parsing it may take a while; client: for fairness; gone(): whether the
    client has left; times: seconds by stage; parsed() and told() run on any thread, sent() and asked() on the loop's;
    asked(): only for those who trace."""

    is_heavy: bool
    client: Hashable

    def is_gone(self) -> bool: ...
    def parse(self) -> InferenceRequest: ...
    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> ReplyT: ...
    def send(self, outcome: ReplyT | ToolchainError) -> None: ...
    def span_attributes(self, outcome: InferenceOutcome) -> SpanAttributes: ...


OnTraced = Callable[
    [RequestAdapter[Any], InferenceOutcome, float, Mapping[str, float]], None
]  # seconds in all, seconds by stage


class InferenceHandler:
    """What all requests share. timeout_s: how long one may wait in the queue, if it does not ask for less. traced: told
    of every request that was answered or refused here."""

    def __init__(
        self, bundle: Bundle, health: Health, metrics: Metrics, log: Log, timeout_s: float, regions: SharedRegions
    ) -> None:
        self.bundle, self.health, self.metrics, self.log, self.timeout_s = bundle, health, metrics, log, timeout_s
        self.regions = regions
        self.header_cache = HeaderCache(bundle.manifest.inputs, bundle.manifest.outputs, bundle.manifest.preprocessing)
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self.in_flight = 0
        self.callbacks = CallbackQueue(self.loop)
        self.thread, self.call_soon = get_ident(), self.callbacks.call_soon
        self.on_traced: OnTraced | None = None

    def handle(self, adapter: RequestAdapter[ReplyT]) -> None:
        """Answer by `talk.sent`, now or later."""
        try:
            service = self.health.require_service()
            service.admit()
        except ToolchainError as error:
            self.refuse(error, adapter)
            if self.on_traced is not None:
                self.on_traced(adapter, error, 0.0, {})
            return
        self.in_flight += 1
        exchange = RequestPipeline(self, service, adapter)
        if adapter.is_heavy:
            self.pool.submit(exchange.begin)
        else:
            exchange.begin()

    def refuse(self, error: ToolchainError, adapter: RequestAdapter[ReplyT], seconds: float = 0.0) -> None:
        """Counted by its reason, told to the client, and logged where it is our fault. seconds: spent all the same."""
        reason = rejection_reason(error)
        self.metrics.rejections[reason] += 1
        self.metrics.failures += 1
        self.metrics.failed_s += seconds
        if reason == "engine_fault":
            self.log.write("error", "fault", message=str(error))
        adapter.send(error)


def rejection_reason(error: ToolchainError) -> str:
    """A word for counting requests that got no inference."""
    match error:
        case RequestError():
            return "bad_request"
        case Unavailable():
            return error.reason
        case DeadlineExceeded():
            return "deadline"
        case ClientDisconnected():
            return "client_gone"
        case _:
            return "engine_fault"


class RequestPipeline(Generic[ReplyT]):
    """An admitted request; `begin` may run on any thread, `_finish` runs on the loop's."""

    def __init__(self, handler: InferenceHandler, service: Service, adapter: RequestAdapter[ReplyT]) -> None:
        self._handler, self._service, self._adapter = handler, service, adapter
        self._started = time.perf_counter()
        self._deadline = self._started + handler.timeout_s
        self._times: dict[str, float] = {}

    def begin(self) -> None:
        """Parse, decode, submit."""
        try:
            if self._adapter.is_heavy:  # it has waited for a thread
                self._check_deadline()
            self._request = self._timed("parse", self._adapter.parse)
            if self._request.timeout_us is not None:
                self._deadline = min(self._deadline, self._started + self._request.timeout_us / 1e6)
            if self._request.images and not self._adapter.is_heavy:  # parsed on the loop's thread, decoded elsewhere
                self._handler.pool.submit(self._submit)
            else:
                self._submit()
        except Exception as error:
            self._fail(error)

    def _submit(self) -> None:
        try:
            feeds = self._timed("decode", self._decode_images) if self._request.images else self._request.feeds
            left_s = self._deadline - time.perf_counter()
            self._service.submit(feeds, self._on_outcome, left_s, self._adapter.client, self._adapter.is_gone)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Also by a bug of ours: the client must hear of it, its place must be given back."""
        self._service.release()
        known = error if isinstance(error, ToolchainError) else EngineFault(f"unexpected: {error!r:.300}")
        self._handler.call_soon(self._finish, known, None)

    def _check_deadline(self) -> None:
        """Waiting for a thread that decodes counts like waiting for the engine; who has left is not decoded for."""
        now = time.perf_counter()
        if now > self._deadline:
            waited_ms = (now - self._started) * 1e3
            raise DeadlineExceeded(
                f"waited {waited_ms:.0f} ms to be decoded, past its time; send less, or try again later"
            )
        if self._adapter.is_gone() and self._service.depth > 1:
            raise ClientDisconnected("the client left")

    def _timed(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        began = time.perf_counter()
        result = work()
        self._times[stage] = time.perf_counter() - began
        return result

    def _decode_images(self) -> dict[str, Array]:
        from deploy.runtime.preprocessing import decode_and_fit  # Pillow is loaded by the first picture

        manifest, pictures = self._handler.bundle.manifest, self._request.images
        spec, preprocessing = manifest.inputs[0], manifest.preprocessing
        if len(manifest.inputs) > 1 or spec.dtype != "uint8" or spec.shape != (None, *preprocessing.shape):
            raise RequestError("this model does not take pictures; send tensors (GET the model's metadata)")
        most = self._service.options.max_batch
        if len(pictures) > most:
            raise RequestError(f"expected at most {most} pictures, got {len(pictures)}")
        arrays = []
        for picture in pictures:
            self._check_deadline()
            arrays.append(decode_and_fit(picture, preprocessing))
        return {spec.name: np.stack(arrays)}

    def _on_outcome(self, outcome: InferenceOutcome) -> None:
        """On any thread: hand the outcome to the loop, a long one by way of the pool."""
        if (
            isinstance(outcome, InferenceResult)
            and sum(output.size for output in outcome.outputs.values()) > LONG_BYTES // 8
        ):
            self._handler.pool.submit(self._encode_on_pool, outcome)
        elif get_ident() == self._handler.thread:
            self._encode_and_finish(outcome)
        else:
            self._handler.call_soon(self._encode_and_finish, outcome)

    def _encode_and_finish(self, outcome: InferenceOutcome) -> None:
        self._finish(*self._encode(outcome))

    def _encode_on_pool(self, outcome: InferenceOutcome) -> None:
        self._handler.call_soon(self._finish, *self._encode(outcome))

    def _encode(self, outcome: InferenceOutcome) -> tuple[InferenceOutcome, ReplyT | None]:
        reply: ReplyT | None = None
        if isinstance(outcome, InferenceResult):
            self._times |= {"queue": outcome.queue_s, "infer": outcome.infer_s}
            try:
                reply = self._timed("encode", partial(self._adapter.encode, self._request, outcome, self._times))
            except RequestError as error:  # an output that does not fit the shared memory that it is to go to
                outcome = error
            except Exception as error:  # an engine's answer that cannot be told, or a bug: a 500, not a hung client
                outcome = EngineFault(f"the answer cannot be encoded: {error!r:.300}")
        return outcome, reply

    def _finish(self, outcome: InferenceOutcome, reply: ReplyT | None) -> None:
        self._handler.in_flight -= 1
        if reply is None or not isinstance(outcome, InferenceResult):
            outcome = outcome if isinstance(outcome, ToolchainError) else EngineFault("no reply")
            self._handler.refuse(outcome, self._adapter, time.perf_counter() - self._started)
        else:
            self._adapter.send(reply)
            call_rows = outcome.batch_rows if outcome.is_first else 0
            self._handler.metrics.count_inference(
                outcome.rows, call_rows, self._times, time.perf_counter() - self._started
            )
        if self._handler.on_traced is not None:
            self._handler.on_traced(self._adapter, outcome, time.perf_counter() - self._started, self._times)
