"""One inference, whatever its protocol: parse, decode, queue, infer, encode, each of them timed.

Work that takes more than a few hundred microseconds (images, long JSON) runs on a thread pool, never on the event
loop's thread. Knows nothing of HTTP, gRPC or sockets: a RequestAdapter does.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from deploy.runtime.inference.callback_queue import CallbackQueue
from deploy.runtime.inference.decoding_pools import DecodingPools
from deploy.runtime.inference.health import Health
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.header_cache import HeaderCache
from deploy.runtime.protocol.requests import InferenceRequest
from deploy.runtime.protocol.shared_memory import SharedRegions
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, EngineFault, rejection_reason
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from deploy.runtime.scheduling.memory_budget import MemoryBudget, Reservation
from deploy.runtime.scheduling.service import Service
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Feeds

if TYPE_CHECKING:
    from deploy.runtime.inference.image_decoding import ImageDecoding

ResultT = TypeVar("ResultT")
AdapterReplyT = TypeVar("AdapterReplyT")
LONG_BYTES = 16 << 10  # of JSON, in or out: about a millisecond
SMALL_BYTES = 256 << 10  # of decoded images: not reserved, the queue's length bounds them
TRACE_HEADERS = ("traceparent", "tracestate")  # headers (w3.org/TR/trace-context)


class SpanAttributes(NamedTuple):
    """A request as traces name it (OpenTelemetry's semantic conventions); headers: those in TRACE_HEADERS."""

    name: str
    attributes: dict[str, str | int]
    headers: dict[str, str]


class RequestAdapter(Protocol[AdapterReplyT]):
    """A request in its protocol's form. is_heavy: parsing may take a while; client: for fairness; budget_client: whose
    share of the memory budget it takes (None: nobody's); is_gone(): whether the client has disconnected; unpack(): the
    next part of compressed content, whether that was all, called until it is and only where is_heavy; times: seconds by
    stage. unpack(), parse() and encode() run on any thread, send() and span_attributes() on the event loop's;
    span_attributes() is called only when tracing."""

    is_heavy: bool
    client: Hashable
    budget_client: Hashable

    def is_gone(self) -> bool: ...
    def unpack(self) -> bool: ...
    def parse(self) -> InferenceRequest: ...
    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> AdapterReplyT: ...
    def send(self, outcome: AdapterReplyT | ToolchainError) -> None: ...
    def span_attributes(self, outcome: InferenceOutcome) -> SpanAttributes: ...


OnTraced = Callable[
    [RequestAdapter[Any], InferenceOutcome, float, Mapping[str, float]], None
]  # seconds in all, seconds by stage


class InferenceHandler:
    """What all requests share. timeout_s: how long a request may wait in the queue, unless it names a shorter time.
    budget: of the bytes that all requests together may hold. on_traced: called for every request that was answered or
    refused here."""

    def __init__(
        self,
        bundle: Bundle,
        health: Health,
        metrics: Metrics,
        log: Log,
        timeout_s: float,
        regions: SharedRegions,
        budget: MemoryBudget,
    ) -> None:
        self.bundle, self.health, self.metrics, self.log, self.timeout_s = bundle, health, metrics, log, timeout_s
        self.regions, self.budget = regions, budget
        self.header_cache = HeaderCache(bundle.manifest.inputs, bundle.manifest.outputs, bundle.manifest.preprocessing)
        self.loop = asyncio.get_running_loop()
        self.pools = DecodingPools(timeout_s, self._log_bug)
        health.stuck_reason = self.pools.stuck_reason
        self.in_flight = 0
        self.callbacks = CallbackQueue(self.loop)
        self.thread, self.call_soon = get_ident(), self.callbacks.call_soon
        self.on_traced: OnTraced | None = None

    def handle(self, adapter: RequestAdapter[AdapterReplyT]) -> None:
        """Answer through `adapter.send`, now or later."""
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
            self.pools.small.submit(exchange.begin, adapter.client, adapter.budget_client)
        else:
            exchange.begin()

    def _log_bug(self, error: Exception) -> None:
        self.log.write("error", "unexpected", error=repr(error))

    def refuse(self, error: ToolchainError, adapter: RequestAdapter[AdapterReplyT], seconds: float = 0.0) -> None:
        """Count the error by its reason, send it, and log it where it is the server's fault. seconds: spent on the
        request."""
        reason = rejection_reason(error)
        self.metrics.rejections[reason] += 1
        self.metrics.failures += 1
        self.metrics.failed_s += seconds
        if reason == "engine_fault":
            self.log.write("error", "fault", message=str(error))
        adapter.send(error)


class RequestPipeline(Generic[AdapterReplyT]):
    """An admitted request. `begin` may run on any thread, `_finish` runs on the event loop's."""

    def __init__(self, handler: InferenceHandler, service: Service, adapter: RequestAdapter[AdapterReplyT]) -> None:
        self._handler, self._service, self._adapter = handler, service, adapter
        self._started = time.perf_counter()
        self._deadline = self._started + handler.timeout_s
        self._times: dict[str, float] = {}
        self._reservation: Reservation | None = None
        self._client = adapter.client, adapter.budget_client

    def begin(self) -> None:
        """Unpack, parse, decode if needed, submit."""
        try:
            if self._adapter.is_heavy and not self._unpack():
                self._handler.pools.large.submit(self._unpack_turn, *self._client)
            else:
                self._parse()
        except Exception as error:
            self._fail(error)

    def _unpack(self) -> bool:
        self._check_deadline()  # it has waited for a pool thread
        return self._time_stage("parse", self._adapter.unpack)

    def _unpack_turn(self) -> None:
        try:
            if self._unpack():
                self._parse()
            else:
                self._handler.pools.large.resubmit(self._unpack_turn, *self._client)
        except Exception as error:
            self._fail(error)

    def _parse(self) -> None:
        self._request = self._time_stage("parse", self._adapter.parse)
        if self._request.timeout_us is not None:
            self._deadline = min(self._deadline, self._started + self._request.timeout_us / 1e6)
        if not self._request.images:
            self._submit(self._request.feeds)
        elif self._adapter.is_heavy:
            self._begin_decoding()
        else:  # parsed on the event loop's thread, decoded elsewhere
            self._handler.pools.small.submit(self._begin_decoding, *self._client)

    def _submit(self, feeds: Feeds) -> None:
        left_s = self._deadline - time.perf_counter()
        client, group = self._client
        self._service.submit(feeds, self._on_outcome, left_s, client, self._adapter.is_gone, group)

    def _begin_decoding(self) -> None:
        """Few small images at once; many, or large ones, on a pool of their own, one image a turn."""
        try:
            decoding = self._plan_decoding()
            while (has_more := self._decode_next(decoding)) and not decoding.is_large:
                pass
            if has_more:
                self._handler.pools.large.submit(partial(self._decode_turn, decoding), *self._client)
            else:
                self._submit_decoded(decoding)
        except Exception as error:
            self._fail(error)

    def _decode_turn(self, decoding: "ImageDecoding") -> None:
        try:
            with self._handler.budget.reserve(decoding.next_bytes):  # not the client's: one at a time
                has_more = self._decode_next(decoding)
            if has_more:
                self._handler.pools.large.resubmit(partial(self._decode_turn, decoding), *self._client)
            else:
                self._submit_decoded(decoding)
        except Exception as error:
            self._fail(error)

    def _plan_decoding(self) -> "ImageDecoding":
        from deploy.runtime.inference.image_decoding import ImageDecoding  # loads Pillow, at the first image

        manifest, images, budget = self._handler.bundle.manifest, self._request.images, self._handler.budget
        spec, preprocessing = manifest.inputs[0], manifest.preprocessing
        if len(manifest.inputs) > 1 or spec.dtype != "uint8" or spec.shape != (None, *preprocessing.shape):
            raise RequestError("this model does not take images; send tensors (see the model's metadata)")
        most = self._service.options.max_batch
        if len(images) > most:
            raise RequestError(f"expected at most {most} images, got {len(images)}")
        self._check_deadline()
        decoding = ImageDecoding(images, preprocessing, budget.total_bytes // 2)
        self._request = msgspec.structs.replace(self._request, images=())  # the decoding keeps what it needs of them
        if decoding.array_bytes > SMALL_BYTES:  # before a header is read: a refusal must cost next to nothing
            self._reservation = budget.reserve(decoding.array_bytes, self._adapter.budget_client)
        return decoding

    def _decode_next(self, decoding: "ImageDecoding") -> bool:
        self._check_deadline()
        return self._time_stage("decode", lambda: decoding.step(self._check_deadline))

    def _submit_decoded(self, decoding: "ImageDecoding") -> None:
        self._submit({self._handler.bundle.manifest.inputs[0].name: decoding.array})

    def _fail(self, error: Exception) -> None:
        """Even after a bug: the client must get a reply, and the place in the queue must be given back."""
        self._service.release()
        known = error if isinstance(error, ToolchainError) else EngineFault(f"unexpected: {error!r:.300}")
        self._handler.call_soon(self._finish, known, None)

    def _check_deadline(self) -> None:
        """Waiting for a decoding thread counts like waiting for the engine; nothing is decoded for a client that has
        gone."""
        now = time.perf_counter()
        if now > self._deadline:
            waited_ms = (now - self._started) * 1e3
            raise DeadlineExceeded(
                f"waited {waited_ms:.0f} ms to be decoded, past its deadline; send less, or try again later"
            )
        if self._adapter.is_gone() and self._service.depth > 1:
            raise ClientDisconnected("the client disconnected")

    def _time_stage(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        began = time.perf_counter()
        result = work()
        self._times[stage] = self._times.get(stage, 0.0) + time.perf_counter() - began
        return result

    def _on_outcome(self, outcome: InferenceOutcome) -> None:
        """On any thread: pass the outcome to the event loop, a large one by way of the thread pool."""
        if (
            isinstance(outcome, InferenceResult)
            and sum(output.size for output in outcome.outputs.values()) > LONG_BYTES // 8
        ):
            self._handler.pools.small.submit(partial(self._encode_on_pool, outcome), *self._client)
        elif get_ident() == self._handler.thread:
            self._encode_and_finish(outcome)
        else:
            self._handler.call_soon(self._encode_and_finish, outcome)

    def _encode_and_finish(self, outcome: InferenceOutcome) -> None:
        self._finish(*self._encode(outcome))

    def _encode_on_pool(self, outcome: InferenceOutcome) -> None:
        self._handler.call_soon(self._finish, *self._encode(outcome))

    def _encode(self, outcome: InferenceOutcome) -> tuple[InferenceOutcome, AdapterReplyT | None]:
        reply: AdapterReplyT | None = None
        if isinstance(outcome, InferenceResult):
            self._times |= {"queue": outcome.queue_s, "infer": outcome.infer_s}
            try:
                reply = self._time_stage("encode", partial(self._adapter.encode, self._request, outcome, self._times))
            except RequestError as error:  # an output that does not fit its shared memory
                outcome = error
            except Exception as error:  # an answer that cannot be encoded, or a bug: a 500, not a hung client
                outcome = EngineFault(f"the answer cannot be encoded: {error!r:.300}")
        return outcome, reply

    def _finish(self, outcome: InferenceOutcome, reply: AdapterReplyT | None) -> None:
        self._handler.in_flight -= 1
        if self._reservation is not None:
            self._reservation.release()
        if reply is None or not isinstance(outcome, InferenceResult):
            outcome = outcome if isinstance(outcome, ToolchainError) else EngineFault("no reply")
            self._handler.refuse(outcome, self._adapter, time.perf_counter() - self._started)
        else:
            self._adapter.send(reply)
            took_s = time.perf_counter() - self._started
            self._handler.metrics.count_inference(outcome.rows, outcome.calls, self._times, took_s)
        if self._handler.on_traced is not None:
            self._handler.on_traced(self._adapter, outcome, time.perf_counter() - self._started, self._times)
