"""Arrays in, arrays out: checks, a bounded queue, and the engine behind it (dispatch.py). Knows no HTTP.

An engine may be held in two forms: one that answers a single request soonest (all threads on it), and one that answers
most requests (a thread each). A request that is alone goes to the first, one among others to the second (measured:
docs/decisions/0011). Requests that wait together are answered together where the engine is faster so (batching.py).
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue

import msgspec
import numpy as np

from deploy.runtime.engines import Engine
from deploy.runtime.scheduling.batching import joinable
from deploy.runtime.scheduling.dispatch import Plan, Soon, at_once, dispatcher
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.fair_queue import Answer, Done, Job, Outcome, Turns, stays
from deploy.runtime.scheduling.quota_pacer import Pacer
from toolchain.errors import RequestError, ToolchainError
from toolchain.records.tensors import Feeds, TensorSpec, check_feeds

CALM = 20  # rows' times without company after which a request counts as alone: clients in a closed loop pause for one
FORGET = 0.1  # weight of the newest call in the running mean of what a row costs


class Terms(msgspec.Struct, frozen=True):
    """queue: requests that may wait or run; batch: rows of one request; delay_s: how long a request that is among
    others may wait for more to be answered together; goal_s: no request is taken that would wait longer than this
    (None: only `queue` bounds the wait)."""

    queue: int = 64
    batch: int = 256
    delay_s: float = 0.0
    goal_s: float | None = None


DEFAULT = Terms()


def batch_of(specs: Sequence[TensorSpec], feeds: Feeds, max_batch: int) -> int:
    """How many pictures `feeds` hold, checked against the model; RequestError names the tensor that does not fit."""
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


def _only(specs: Sequence[TensorSpec]) -> tuple[str, "np.dtype[np.generic]", tuple[int | None, ...]] | None:
    """Name, type and shape of a row of the only input, where there is one and its batch is its only free axis."""
    if len(specs) != 1 or specs[0].shape[:1] != (None,):
        return None
    return specs[0].name, np.dtype(specs[0].dtype), specs[0].shape[1:]


class Service:
    """admit(), then submit() or release(): a place in the queue is taken before a request costs anything.

    All methods may be called from any thread; `done` is called once, on any thread, and must not block, nor may `lost`,
    which is told why once the engine's device is gone for this process. crowd: the engine's second form, for many
    requests at once; costs: seconds of a call by its rows, as measured at the start; soon: see dispatch.Plan.
    """

    def __init__(
        self,
        engine: Engine,
        terms: Terms = DEFAULT,
        crowd: Engine | None = None,
        costs: dict[int, float] | None = None,
        pacer: Pacer | None = None,
        lost: Callable[[str], None] = lambda _: None,
        soon: Soon = at_once,
    ) -> None:
        self.engine, self.crowd, self.terms = engine, crowd or engine, terms
        self.costs = {1: 1.0} if not costs or not joinable(engine.inputs, engine.outputs) else costs
        self.depth = 0  # admitted and not yet answered
        self._row_s, self._calm_at = 0.0, 0.0
        self._only = _only(engine.inputs)
        self._lock = threading.Lock()
        self._turns = Turns()
        self._dispatcher = dispatcher(
            Plan(
                self.engine,
                self.crowd,
                self.costs,
                pacer or Pacer(None),
                terms.delay_s,
                self._turns,
                self._coming,
                self._hand,
                self._learn,
                lost,
                soon,
            )
        )

    def _coming(self) -> bool:
        return self.depth > self._turns.rows + 1

    def full(self) -> bool:
        """Whether the engine has all that it can take, as far as that is known here: not where threads ask it."""
        return self._dispatcher.full()

    @property
    def wait_s(self) -> float:
        """How long a row that is queued now will wait, by what rows cost lately."""
        return self._turns.rows * self._row_s

    def admit(self) -> None:
        """Take a place; Unavailable when there is none, or when the latency goal could not be kept."""
        with self._lock:
            if self.depth >= self.terms.queue:
                raise Unavailable(
                    f"overloaded: {self.depth} requests are waiting, the limit is {self.terms.queue}", "queue_full"
                )
            self._check_goal()
            self.depth += 1
            if self.depth > 1:
                self._calm_at = time.perf_counter() + CALM * self._row_s

    def _check_goal(self) -> None:
        goal_s, wait_s = self.terms.goal_s, self.wait_s
        if goal_s is not None and self._turns.rows and wait_s > goal_s:
            words = f"overloaded: {wait_s * 1e3:.0f} ms to wait, the latency goal is {goal_s * 1e3:.0f} ms"
            raise Unavailable(words, "latency_goal", max(1, round(wait_s)))

    def release(self) -> None:
        """Give the place back without asking the engine."""
        with self._lock:
            self.depth -= 1

    def submit(
        self,
        feeds: Feeds,
        done: Done,
        timeout_s: float | None = None,
        client: Hashable = None,
        gone: Callable[[], bool] = stays,
    ) -> None:
        """Queue an admitted request; RequestError (the place stays taken) when `feeds` do not fit the model."""
        batch = self._batch_of(feeds)
        now = time.perf_counter()
        job = Job(feeds, batch, done, now, None if timeout_s is None else now + timeout_s, client, gone)
        self._dispatcher.put(job, alone=self.depth == 1 and now > self._calm_at)

    def _batch_of(self, feeds: Feeds) -> int:
        """The usual model has one input and a free batch: that is looked at first."""
        if self._only is not None and len(feeds) == 1:
            name, dtype, shape = self._only
            array = feeds.get(name)
            if array is not None and array.dtype == dtype and array.shape[1:] == shape:
                batch: int = array.shape[0]
                if 1 <= batch <= self.terms.batch:
                    return batch
        return batch_of(self.engine.inputs, feeds, self.terms.batch)

    def infer(self, feeds: Feeds, timeout_s: float | None = None) -> Answer:
        """Admit, submit and wait: for callers that have a thread to spare. Raises what `submit` would hand over."""
        outcomes: SimpleQueue[Outcome] = SimpleQueue()
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
        """Finish what is queued, then end the workers."""
        self._dispatcher.close()

    def _hand(self, job: Job, outcome: Outcome) -> None:
        self.release()
        job.done(outcome)

    def _learn(self, row_s: float) -> None:
        """The workers write this without a lock: a lost update of a running mean does no harm."""
        self._row_s = row_s if not self._row_s else self._row_s + FORGET * (row_s - self._row_s)
