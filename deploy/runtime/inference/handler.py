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

from deploy.runtime.inference.health import Health
from deploy.runtime.inference.thread_handoff import Landing
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.header_cache import Repeats
from deploy.runtime.protocol.requests import Call
from deploy.runtime.protocol.shared_memory import Regions
from deploy.runtime.scheduling.errors import EngineFault, Expired, Gone, Unavailable
from deploy.runtime.scheduling.fair_queue import Answer, Outcome
from deploy.runtime.scheduling.service import Service
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

ResultT = TypeVar("ResultT")
ReplyT = TypeVar("ReplyT")
LONG_BYTES = 16 << 10  # of JSON, in or out: about a millisecond
TRACE = ("traceparent", "tracestate")  # headers (w3.org/TR/trace-context)


class Asked(NamedTuple):
    """A request as traces name it (OpenTelemetry's semantic conventions); headers: those of TRACE."""

    name: str
    attributes: dict[str, str | int]
    headers: dict[str, str]


class Talk(Protocol[ReplyT]):
    """A request as its protocol has it. heavy: parsing it may take a while; client: for fairness; gone(): whether the
    client has left; times: seconds by stage; parsed() and told() run on any thread, sent() and asked() on the loop's;
    asked(): only for those who trace."""

    heavy: bool
    client: Hashable

    def gone(self) -> bool: ...
    def parsed(self) -> Call: ...
    def told(self, call: Call, answer: Answer, times: Mapping[str, float]) -> ReplyT: ...
    def sent(self, outcome: ReplyT | ToolchainError) -> None: ...
    def asked(self, outcome: Outcome) -> Asked: ...


Traced = Callable[[Talk[Any], Outcome, float, Mapping[str, float]], None]  # seconds in all, seconds by stage


class Desk:
    """What all requests share. timeout_s: how long one may wait in the queue, if it does not ask for less. traced: told
    of every request that was answered or refused here."""

    def __init__(
        self, bundle: Bundle, health: Health, metrics: Metrics, log: Log, timeout_s: float, regions: Regions
    ) -> None:
        self.bundle, self.health, self.metrics, self.log, self.timeout_s = bundle, health, metrics, log, timeout_s
        self.regions = regions
        self.repeats = Repeats(bundle.manifest.inputs, bundle.manifest.outputs, bundle.manifest.preprocessing)
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self.in_flight = 0
        self.landing = Landing(self.loop)
        self.thread, self.soon = get_ident(), self.landing.soon
        self.traced: Traced | None = None

    def answer(self, talk: Talk[ReplyT]) -> None:
        """Answer by `talk.sent`, now or later."""
        try:
            service = self.health.serving()
            service.admit()
        except ToolchainError as error:
            self.refuse(error, talk)
            if self.traced is not None:
                self.traced(talk, error, 0.0, {})
            return
        self.in_flight += 1
        exchange = Exchange(self, service, talk)
        if talk.heavy:
            self.pool.submit(exchange.begin)
        else:
            exchange.begin()

    def refuse(self, error: ToolchainError, talk: Talk[ReplyT], seconds: float = 0.0) -> None:
        """Counted by its reason, told to the client, and logged where it is our fault. seconds: spent all the same."""
        reason = reason_of(error)
        self.metrics.rejections[reason] += 1
        self.metrics.failures += 1
        self.metrics.failed_s += seconds
        if reason == "engine_fault":
            self.log.write("error", "fault", message=str(error))
        talk.sent(error)


def reason_of(error: ToolchainError) -> str:
    """A word for counting requests that got no inference."""
    match error:
        case RequestError():
            return "bad_request"
        case Unavailable():
            return error.reason
        case Expired():
            return "deadline"
        case Gone():
            return "client_gone"
        case _:
            return "engine_fault"


class Exchange(Generic[ReplyT]):
    """An admitted request; `begin` may run on any thread, `_finish` runs on the loop's."""

    def __init__(self, desk: Desk, service: Service, talk: Talk[ReplyT]) -> None:
        self._desk, self._service, self._talk = desk, service, talk
        self._started = time.perf_counter()
        self._deadline = self._started + desk.timeout_s
        self._times: dict[str, float] = {}

    def begin(self) -> None:
        """Parse, decode, submit."""
        try:
            if self._talk.heavy:  # it has waited for a thread
                self._check_time()
            self._call = self._timed("parse", self._talk.parsed)
            if self._call.timeout_us is not None:
                self._deadline = min(self._deadline, self._started + self._call.timeout_us / 1e6)
            if self._call.pictures and not self._talk.heavy:  # parsed on the loop's thread, decoded elsewhere
                self._desk.pool.submit(self._submit)
            else:
                self._submit()
        except Exception as error:
            self._fail(error)

    def _submit(self) -> None:
        try:
            feeds = self._timed("decode", self._decoded) if self._call.pictures else self._call.feeds
            left_s = self._deadline - time.perf_counter()
            self._service.submit(feeds, self._done, left_s, self._talk.client, self._talk.gone)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Also by a bug of ours: the client must hear of it, its place must be given back."""
        self._service.release()
        known = error if isinstance(error, ToolchainError) else EngineFault(f"unexpected: {error!r:.300}")
        self._desk.soon(self._finish, known, None)

    def _check_time(self) -> None:
        """Waiting for a thread that decodes counts like waiting for the engine; who has left is not decoded for."""
        now = time.perf_counter()
        if now > self._deadline:
            waited_ms = (now - self._started) * 1e3
            raise Expired(f"waited {waited_ms:.0f} ms to be decoded, past its time; send less, or try again later")
        if self._talk.gone() and self._service.depth > 1:
            raise Gone("the client left")

    def _timed(self, stage: str, work: Callable[[], ResultT]) -> ResultT:
        began = time.perf_counter()
        result = work()
        self._times[stage] = time.perf_counter() - began
        return result

    def _decoded(self) -> dict[str, Array]:
        from deploy.runtime.preprocessing import picture_array  # Pillow is loaded by the first picture

        manifest, pictures = self._desk.bundle.manifest, self._call.pictures
        spec, preprocessing = manifest.inputs[0], manifest.preprocessing
        if len(manifest.inputs) > 1 or spec.dtype != "uint8" or spec.shape != (None, *preprocessing.shape):
            raise RequestError("this model does not take pictures; send tensors (GET the model's metadata)")
        most = self._service.terms.batch
        if len(pictures) > most:
            raise RequestError(f"expected at most {most} pictures, got {len(pictures)}")
        arrays = []
        for picture in pictures:
            self._check_time()
            arrays.append(picture_array(picture, preprocessing))
        return {spec.name: np.stack(arrays)}

    def _done(self, outcome: Outcome) -> None:
        """On any thread: hand the outcome to the loop, a long one by way of the pool."""
        if isinstance(outcome, Answer) and sum(output.size for output in outcome.outputs.values()) > LONG_BYTES // 8:
            self._desk.pool.submit(self._encode, outcome)
        elif get_ident() == self._desk.thread:
            self._encode_and_finish(outcome)
        else:
            self._desk.soon(self._encode_and_finish, outcome)

    def _encode_and_finish(self, outcome: Outcome) -> None:
        self._finish(*self._encoded(outcome))

    def _encode(self, outcome: Outcome) -> None:
        self._desk.soon(self._finish, *self._encoded(outcome))

    def _encoded(self, outcome: Outcome) -> tuple[Outcome, ReplyT | None]:
        reply: ReplyT | None = None
        if isinstance(outcome, Answer):
            self._times |= {"queue": outcome.queue_s, "infer": outcome.infer_s}
            try:
                reply = self._timed("encode", partial(self._talk.told, self._call, outcome, self._times))
            except RequestError as error:  # an output that does not fit the shared memory that it is to go to
                outcome = error
            except Exception as error:  # an engine's answer that cannot be told, or a bug: a 500, not a hung client
                outcome = EngineFault(f"the answer cannot be encoded: {error!r:.300}")
        return outcome, reply

    def _finish(self, outcome: Outcome, reply: ReplyT | None) -> None:
        self._desk.in_flight -= 1
        if reply is None or not isinstance(outcome, Answer):
            outcome = outcome if isinstance(outcome, ToolchainError) else EngineFault("no reply")
            self._desk.refuse(outcome, self._talk, time.perf_counter() - self._started)
        else:
            self._talk.sent(reply)
            call_rows = outcome.together if outcome.leads else 0
            self._desk.metrics.answered(outcome.batch, call_rows, self._times, time.perf_counter() - self._started)
        if self._desk.traced is not None:
            self._desk.traced(self._talk, outcome, time.perf_counter() - self._started, self._times)
