"""Arrays in, arrays out: checks, a bounded queue, and the engines behind it (dispatch.py). Knows no HTTP.

A model may be compiled twice: a latency engine, which gives one request all threads, and a throughput engine, which
gives each concurrent request a thread. A lone request goes to the first, concurrent ones to the second (measured:
docs/decisions/0011). Waiting requests are batched where the engine is faster that way (batching.py).
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue

import msgspec
import numpy as np

from deploy.runtime.engines import Engine
from deploy.runtime.scheduling.batching import is_batchable, largest_call
from deploy.runtime.scheduling.dispatch import CallSoon, DispatchContext, make_dispatcher, run_now
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.fair_queue import (
    FairQueue,
    InferenceOutcome,
    InferenceResult,
    OnOutcome,
    QueuedRequest,
    never_gone,
)
from deploy.runtime.scheduling.quota_throttle import QuotaThrottle
from deploy.runtime.scheduling.split_queue import SplitQueue
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.tensors import Feeds, TensorSpec, check_feeds

IDLE_WINDOW_ROWS = (
    20  # idle window, in rows' times: a request counts as alone after it, since closed-loop clients pause together
)
EMA_WEIGHT = 0.1  # weight of the newest call in the running mean of the seconds per row


class SchedulingOptions(msgspec.Struct, frozen=True):
    """max_queue: requests that may wait or run; max_batch: rows of one request; max_delay_s: how long a concurrent
    request may wait for others to form a batch; latency_goal_s: requests that would wait longer are rejected (None:
    only `max_queue` bounds the wait)."""

    max_queue: int = 64
    max_batch: int = 256
    max_delay_s: float = 0.0
    latency_goal_s: float | None = None


DEFAULT_OPTIONS = SchedulingOptions()


def count_rows(specs: Sequence[TensorSpec], feeds: Feeds, max_batch: int) -> int:
    """How many rows `feeds` hold, checked against the model; RequestError names the tensor that does not fit."""
    check_feeds(specs, feeds)
    batch = 1
    sizes = {spec.name: feeds[spec.name].shape[0] for spec in specs if spec.shape and spec.shape[0] is None}
    for name, size in sizes.items():
        batch = next(iter(sizes.values()))
        if size != batch:
            raise RequestError(f"input '{name}': expected a batch of {batch} as in the first input, got {size}")
        if not 1 <= size <= max_batch:
            raise RequestError(f"input '{name}': expected a batch of 1 to {max_batch}, got {size}")
    return batch


def _single_input(specs: Sequence[TensorSpec]) -> tuple[str, "np.dtype[np.generic]", tuple[int | None, ...]] | None:
    """Name, type and row shape of the only input; None where there are several, or other axes than the batch are
    free."""
    if len(specs) != 1 or specs[0].shape[:1] != (None,):
        return None
    return specs[0].name, np.dtype(specs[0].dtype), specs[0].shape[1:]


class Service:
    """admit(), then submit() or release(): a place in the queue is taken before a request costs anything.

    All methods may be called from any thread. `on_outcome` is called once, on any thread, and must not block; nor may
    `on_device_lost`, which gets the reason once this process has lost the engine's device. costs: seconds per call by
    its rows, as measured at start-up; call_soon: see DispatchContext.
    """

    def __init__(
        self,
        latency_engine: Engine,
        options: SchedulingOptions = DEFAULT_OPTIONS,
        throughput_engine: Engine | None = None,
        costs: dict[int, float] | None = None,
        throttle: QuotaThrottle | None = None,
        on_device_lost: Callable[[str], None] = lambda _: None,
        call_soon: CallSoon = run_now,
    ) -> None:
        self.latency_engine, self.throughput_engine, self.options = (
            latency_engine,
            throughput_engine or latency_engine,
            options,
        )
        batchable = is_batchable(latency_engine.inputs, latency_engine.outputs)
        self.costs = costs if costs and batchable else {1: 1.0}
        sizes = self.throughput_engine.batch_sizes
        self._call_rows = options.max_batch if not batchable else largest_call(costs, sizes) if costs else max(sizes)
        self.depth = 0  # requests admitted and not yet answered
        self._row_s, self._idle_at = 0.0, 0.0
        self._single_input = _single_input(latency_engine.inputs)
        self._lock = threading.Lock()
        self._queue = FairQueue()
        self._dispatcher = make_dispatcher(
            DispatchContext(
                self.latency_engine,
                self.throughput_engine,
                self.costs,
                throttle or QuotaThrottle(None),
                options.max_delay_s,
                self._queue,
                self._expects_more,
                self._deliver,
                self._record_row_s,
                on_device_lost,
                call_soon,
            )
        )
        self._splits = SplitQueue(self._call_rows, self._dispatcher.max_pieces, self._start_piece)

    def _start_piece(self, piece: QueuedRequest) -> None:
        self._dispatcher.put(piece, is_lone=False)

    def _expects_more(self) -> bool:
        return self.depth > self._queue.rows + 1

    def is_full(self) -> bool:
        """Whether the engine has as many calls as it takes; always False where worker threads call it."""
        return self._dispatcher.is_full()

    @property
    def wait_s(self) -> float:
        """How long a row that is queued now will wait, by the recent seconds per row."""
        return self._queue.rows * self._row_s

    def admit(self) -> None:
        """Take a place in the queue; Unavailable when there is none, or when the latency goal could not be met."""
        with self._lock:
            if self.depth >= self.options.max_queue:
                raise Unavailable(
                    f"overloaded: {self.depth} requests are waiting, the limit is {self.options.max_queue}",
                    "queue_full",
                )
            self._check_goal()
            self.depth += 1
            if self.depth > 1:
                self._idle_at = time.perf_counter() + IDLE_WINDOW_ROWS * self._row_s

    def _check_goal(self) -> None:
        goal_s, wait_s = self.options.latency_goal_s, self.wait_s
        if goal_s is not None and self._queue.rows and wait_s > goal_s:
            words = f"overloaded: the wait is {wait_s * 1e3:.0f} ms, the latency goal {goal_s * 1e3:.0f} ms"
            raise Unavailable(words, "latency_goal", max(1, round(wait_s)))

    def release(self) -> None:
        """Give the place back without an engine call."""
        with self._lock:
            self.depth -= 1

    def submit(
        self,
        feeds: Feeds,
        on_outcome: OnOutcome,
        timeout_s: float | None = None,
        client: Hashable = None,
        is_gone: Callable[[], bool] = never_gone,
        group: Hashable = None,
    ) -> None:
        """Queue an admitted request; RequestError when `feeds` do not fit the model (the place then stays taken)."""
        batch = self._count_rows(feeds)
        now = time.perf_counter()
        deadline = None if timeout_s is None else now + timeout_s
        job = QueuedRequest(feeds, batch, on_outcome, now, deadline, client, is_gone, group)
        if batch > self._call_rows:
            job = job._replace(is_gone=lambda: is_gone() and self.depth > 1)
            self._splits.put(job)
        else:
            self._dispatcher.put(job, is_lone=self.depth == 1 and now > self._idle_at)

    def _count_rows(self, feeds: Feeds) -> int:
        """Most models have one input and a free batch: that case is checked first."""
        if self._single_input is not None and len(feeds) == 1:
            name, dtype, shape = self._single_input
            array = feeds.get(name)
            if array is not None and array.dtype == dtype and array.shape[1:] == shape:
                batch: int = array.shape[0]
                if 1 <= batch <= self.options.max_batch:
                    return batch
        return count_rows(self.latency_engine.inputs, feeds, self.options.max_batch)

    def infer(self, feeds: Feeds, timeout_s: float | None = None) -> InferenceResult:
        """Admit, submit and wait, for callers with a thread to spare. Raises the error that `submit` would deliver."""
        outcomes: SimpleQueue[InferenceOutcome] = SimpleQueue()
        self.admit()
        try:
            self.submit(feeds, outcomes.put, timeout_s)
        except BaseException:
            self.release()
            raise
        outcome = outcomes.get()
        if isinstance(outcome, ToolchainError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Finish the queued requests, then end the workers."""
        self._splits.wait_until_idle()
        self._dispatcher.close()

    def _deliver(self, job: QueuedRequest, outcome: InferenceOutcome) -> None:
        if job.split is not None:
            whole = self._splits.collect(job, outcome)
            if whole is None:
                return
            outcome = whole
        self.release()
        job.on_outcome(outcome)

    def _record_row_s(self, row_s: float) -> None:
        """Written without a lock: losing an update of a running mean does no harm."""
        self._row_s = row_s if not self._row_s else self._row_s + EMA_WEIGHT * (row_s - self._row_s)
