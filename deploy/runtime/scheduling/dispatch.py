"""From queued requests to engine calls: by worker threads that wait for the engine, or by the engine's callbacks.

Callbacks save two thread switches per request, which cost as much as some layers of a small model; they need an engine
that supports them (OpenVINO) and no wait before a call (a quota, a delay). Knows neither admission nor limits.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from deploy.runtime.engines import AsyncEngine, Engine
from deploy.runtime.scheduling.batching import best_batch_size, concatenate_feeds, split_outputs
from deploy.runtime.scheduling.errors import RESTART_S, ClientDisconnected, DeadlineExceeded, Unavailable, engine_fault
from deploy.runtime.scheduling.fair_queue import FairQueue, InferenceOutcome, InferenceResult, QueuedRequest
from deploy.runtime.scheduling.quota_throttle import QuotaThrottle
from toolchain.errors import LostDevice, ToolchainError
from toolchain.records.tensors import Array

STUCK_S = 120.0
CallSoon = Callable[..., None]


def run_now(work: Callable[..., None], *given: Any) -> None:
    work(*given)


class DispatchContext(NamedTuple):
    """latency_engine: for a lone request; throughput_engine: for concurrent ones, the same object where there is only
    one. costs: seconds per call by its rows. delay_s: how long a concurrent request may wait for others.
    expects_more(): whether admitted requests are not queued yet. call_soon(): runs work on the thread that most
    requests come from: two threads of Python share one lock, and each hand-over makes both wait."""

    latency_engine: Engine
    throughput_engine: Engine
    costs: dict[int, float]
    throttle: QuotaThrottle
    delay_s: float
    queue: FairQueue
    expects_more: Callable[[], bool]
    deliver: Callable[[QueuedRequest, InferenceOutcome], None]
    record_row_s: Callable[[float], None]
    on_device_lost: Callable[[str], None]
    call_soon: CallSoon

    def form_batch(self, first: QueuedRequest) -> list[QueuedRequest]:
        """`first` and the queued requests worth answering in the same call."""
        jobs = [first]
        if len(self.costs) > 1 and self.queue.rows:
            size = (
                best_batch_size(first.rows + self.queue.rows, self.costs, self.throughput_engine.pads_batches)
                - first.rows
            )
            while size > 0 and (job := self.queue.pop(size)) is not None:
                jobs.append(job)
                size -= job.rows
        return jobs

    def drop_stale(self, jobs: Sequence[QueuedRequest], now: float) -> list[QueuedRequest]:
        """The requests still worth answering; the others get their error."""
        found = []
        for job in jobs:
            refusal = self._rejection(job, now)
            if refusal is None:
                found.append(job)
            else:
                self.deliver(job, refusal)
        return found

    def _rejection(self, job: QueuedRequest, now: float) -> ToolchainError | None:
        if job.split is not None and job.split.error is not None:
            return job.split.error
        if job.deadline is not None and now > job.deadline:
            return DeadlineExceeded(
                f"waited {(now - job.queued) * 1e3:.0f} ms in the queue, past its deadline; try again later"
            )
        # a client that closed only its half may still be reading: it is answered unless others wait; of a piece,
        # is_gone() has seen to that, since what waits may be of the same request
        if job.is_gone() and (job.split is not None or self.queue.rows):
            return ClientDisconnected("the client disconnected")
        return None

    def results(
        self, jobs: Sequence[QueuedRequest], engine: Engine, outputs: dict[str, Array], started: float
    ) -> list[InferenceOutcome]:
        took, rows = time.perf_counter() - started, sum(job.rows for job in jobs)
        self.record_row_s(took / rows / max(1, engine.requests))
        parts = split_outputs(outputs, [job.rows for job in jobs]) if len(jobs) > 1 else [outputs]
        return [
            InferenceResult(part, job.rows, started - job.queued, took, rows, () if number else (rows,))
            for number, (job, part) in enumerate(zip(jobs, parts, strict=True))
        ]

    def infer(self, jobs: Sequence[QueuedRequest], engine: Engine) -> list[InferenceOutcome]:
        """Call the engine and wait."""
        started = time.perf_counter()
        try:
            outputs = engine.infer(concatenate_feeds(jobs))
        except LostDevice as error:
            self.on_device_lost(str(error))
            return [Unavailable(str(error), "lost_device", RESTART_S)] * len(jobs)
        except Exception as error:  # whatever an engine raises, the worker must go on and the client must get a reply
            if len(jobs) > 1:  # one request's error must not fail the others
                return [outcome for job in jobs for outcome in self.infer([job], engine)]
            return [engine_fault(error)]
        return self.results(jobs, engine, outputs, started)


class WorkerThreads:
    """A thread for each concurrent engine call."""

    def __init__(self, plan: DispatchContext) -> None:
        self._context = plan
        self._arrived: SimpleQueue[bool] = SimpleQueue()  # True for each queued request; False: end
        self._latency_queue: SimpleQueue[QueuedRequest | None] = SimpleQueue()
        works = [self._run_throughput] * max(1, plan.throttle.max_concurrent(plan.throughput_engine.requests))
        self.max_pieces = len(works) + 1  # of large requests at once: each thread has one, and the next is there
        works += [self._run_latency] if plan.throughput_engine is not plan.latency_engine else []
        self._workers = [
            threading.Thread(target=work, name=f"infer-{number}", daemon=True) for number, work in enumerate(works)
        ]
        for worker in self._workers:
            worker.start()

    def put(self, job: QueuedRequest, is_lone: bool) -> None:
        if is_lone and self._context.throughput_engine is not self._context.latency_engine:
            self._latency_queue.put(job)
        else:
            self._context.queue.put(job)
            self._arrived.put(True)

    def is_full(self) -> bool:
        return False

    def close(self) -> None:
        self._latency_queue.put(None)
        for _ in self._workers:
            self._arrived.put(False)
        for worker in self._workers:
            worker.join()

    def _run_latency(self) -> None:
        while (job := self._latency_queue.get()) is not None:
            self._infer_and_deliver([job], self._context.latency_engine)

    def _run_throughput(self) -> None:
        plan = self._context
        while self._arrived.get():
            if (first := plan.queue.pop()) is not None:  # None: another worker has taken it into its batch
                self._wait_for_more(first)
                self._infer_and_deliver(plan.form_batch(first), plan.throughput_engine)
        while (job := plan.queue.pop()) is not None:
            self._infer_and_deliver([job], plan.throughput_engine)

    def _wait_for_more(self, first: QueuedRequest) -> None:
        """For at most the delay, while other requests are known to be on their way; never for a lone request."""
        plan, seen = self._context, list[bool]()
        limit = first.queued + plan.delay_s
        with suppress(Empty):
            while (left_s := limit - time.perf_counter()) > 0 and all(seen):
                if first.rows + plan.queue.rows >= max(plan.costs) or not plan.expects_more():
                    break
                seen.append(self._arrived.get(timeout=left_s))
        for one in seen:  # requests that do not join this batch still need a worker
            self._arrived.put(one)

    def _infer_and_deliver(self, jobs: Sequence[QueuedRequest], engine: Engine) -> None:
        self._context.throttle.wait()
        fit = self._context.drop_stale(jobs, time.perf_counter())
        if fit:
            for job, outcome in zip(fit, self._context.infer(fit, engine), strict=True):
                self._context.deliver(job, outcome)


class EngineCallbacks:
    """No worker threads: the engine's own threads call back."""

    def __init__(self, plan: DispatchContext, engine: AsyncEngine, crowd: AsyncEngine) -> None:
        self._context, self._latency_engine, self._throughput_engine = plan, engine, crowd
        # of large requests at once: another request finds a free place, and waits for a stream alone
        self.max_pieces = max(1, crowd.max_in_flight - 1)
        self._lock = threading.Lock()
        self._free = {id(engine): engine.max_in_flight, id(crowd): crowd.max_in_flight}
        self._retries = ThreadPoolExecutor(1, thread_name_prefix="infer-again")
        self._idle = threading.Condition(self._lock)
        self._calls: dict[int, tuple[Sequence[QueuedRequest], float]] = {}
        self._numbers = count()
        self._closed = threading.Event()
        threading.Thread(target=self._watch_stuck_calls, name="infer-watch", daemon=True).start()

    def put(self, job: QueuedRequest, is_lone: bool) -> None:
        engine = self._latency_engine if is_lone else self._throughput_engine
        with self._lock:
            if not self._free[id(engine)]:
                if engine is self._throughput_engine or not self._free[id(self._throughput_engine)]:
                    self._context.queue.put(job)
                    return
                engine = self._throughput_engine
            self._free[id(engine)] -= 1
        self._start([job], engine)

    def is_full(self) -> bool:
        return not self._free[id(self._throughput_engine)]

    def close(self) -> None:
        with self._idle:
            busy = self._latency_engine.max_in_flight + (
                self._throughput_engine.max_in_flight if self._throughput_engine is not self._latency_engine else 0
            )
            self._idle.wait_for(lambda: sum(self._free.values()) == busy and not self._context.queue.rows)
        self._retries.shutdown()
        self._closed.set()

    def _start(self, jobs: Sequence[QueuedRequest], engine: AsyncEngine) -> None:
        started, number = time.perf_counter(), next(self._numbers)
        self._calls[number] = jobs, started
        try:
            engine.start(concatenate_feeds(jobs), partial(self._context.call_soon, self._on_finished, number, engine))
        except Exception as error:
            self._on_finished(number, engine, error)

    def _on_finished(self, number: int, engine: AsyncEngine, found: dict[str, Array] | Exception) -> None:
        """Start what waits first, so that the engine is not idle meanwhile."""
        jobs, started = self._calls.pop(number, ((), 0.0))
        self._start_next(engine)
        if not jobs:
            return  # given up by _watch_stuck_calls
        if isinstance(found, Exception):
            self._on_error(jobs, engine, found)
            return
        for job, outcome in zip(jobs, self._context.results(jobs, engine, found, started), strict=True):
            self._context.deliver(job, outcome)

    def _start_next(self, engine: AsyncEngine) -> None:
        fit: list[QueuedRequest] = []
        while not fit:
            with self._idle:
                first = self._context.queue.pop() if engine is self._throughput_engine else None
                if first is None:
                    self._free[id(engine)] += 1
                    self._idle.notify_all()
                    return
                jobs = self._context.form_batch(first)
            fit = self._context.drop_stale(jobs, time.perf_counter())
        self._start(fit, engine)

    def _on_error(self, jobs: Sequence[QueuedRequest], engine: AsyncEngine, error: Exception) -> None:
        if len(jobs) == 1:
            self._context.deliver(jobs[0], engine_fault(error))
            return
        for job in jobs:  # one request's error must not fail the others
            self._retries.submit(self._retry, job, engine)

    def _retry(self, job: QueuedRequest, engine: AsyncEngine) -> None:
        self._context.deliver(job, self._context.infer([job], engine)[0])

    def _watch_stuck_calls(self) -> None:
        """An engine that never calls back would block its clients for ever; only a new process helps."""
        while not self._closed.wait(STUCK_S / 10):
            now = time.perf_counter()
            for number, (_, started) in tuple(self._calls.items()):
                if now - started > STUCK_S and (given_up := self._calls.pop(number, None)):
                    why = f"the engine has not answered for {STUCK_S:g} s"
                    self._context.on_device_lost(why)
                    for job in given_up[0]:
                        self._context.deliver(job, Unavailable(why, "lost_device", RESTART_S))


def make_dispatcher(plan: DispatchContext) -> WorkerThreads | EngineCallbacks:
    engine, crowd = plan.latency_engine, plan.throughput_engine
    waits = plan.throttle.is_limited or plan.delay_s > 0
    if isinstance(engine, AsyncEngine) and isinstance(crowd, AsyncEngine) and not waits:
        return EngineCallbacks(plan, engine, crowd)
    return WorkerThreads(plan)
