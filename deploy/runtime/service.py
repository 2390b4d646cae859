"""Arrays in, arrays out: checks, a bounded queue, threads that feed the engine. Knows no HTTP.

An engine may be held in two forms: one that answers a single request soonest (all threads on it), and one that answers
most requests (a thread each). A request that is alone goes to the first, one among others to the second (measured:
docs/decisions/0011). Requests that wait together are answered together where the engine is faster so (batching.py).
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

import msgspec

from deploy.runtime.batching import joinable, joined, parted, worth
from deploy.runtime.engines import Engine
from deploy.runtime.pacing import Pacer
from deploy.runtime.turns import Answer, Done, Job, Outcome, Turns, stays
from toolchain.errors import LostDevice, RequestError, ToolchainError
from toolchain.records.tensors import Feeds, TensorSpec, check_feeds

RESTART_S = 10
FORGET = 0.1  # weight of the newest call in the running mean of what a row costs


class Unavailable(ToolchainError):
    """Not now: `reason` is a word for counting; try again after `retry_after_s`."""

    def __init__(self, message: str, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason, self.retry_after_s = reason, retry_after_s


class Expired(ToolchainError):
    """The request's time ran out before the engine could start on it."""


class Gone(ToolchainError):
    """The client left before the engine could start on its request."""


class EngineFault(ToolchainError):
    """The engine failed on a request that fits the model."""


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


class Service:
    """admit(), then submit() or release(): a place in the queue is taken before a request costs anything.

    All methods may be called from any thread; `done` is called once, on a worker's thread, and must not block, nor may
    `lost`, which is told why once the engine's device is gone for this process. crowd: the engine's second form, for
    many requests at once; costs: seconds of a call by its rows, as measured at the start.
    """

    def __init__(
        self,
        engine: Engine,
        terms: Terms = DEFAULT,
        crowd: Engine | None = None,
        costs: dict[int, float] | None = None,
        pacer: Pacer | None = None,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.engine, self.crowd, self.terms = engine, crowd or engine, terms
        self.costs = {1: 1.0} if not costs or not joinable(engine.inputs, engine.outputs) else costs
        self.depth = 0  # admitted and not yet answered
        self._lost, self._pacer = lost, pacer or Pacer(None)
        self._row_s, self._calm_at = 0.0, 0.0
        self._lock = threading.Lock()
        self._turns = Turns()
        self._arrived: SimpleQueue[bool] = SimpleQueue()  # a True for each job in _turns; False: end
        self._alone: SimpleQueue[Job | None] = SimpleQueue()
        self._workers = [self._worker(self._work, number) for number in range(max(1, self.crowd.requests))]
        if crowd is not None:
            self._workers.append(self._worker(self._work_alone, "alone"))

    def _worker(self, work: Callable[[], None], name: object) -> threading.Thread:
        worker = threading.Thread(target=work, name=f"infer-{name}", daemon=True)
        worker.start()
        return worker

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
                self._calm_at = time.perf_counter() + 2 * self._row_s

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
        batch = batch_of(self.engine.inputs, feeds, self.terms.batch)
        now = time.perf_counter()
        job = Job(feeds, batch, done, now, None if timeout_s is None else now + timeout_s, client, gone)
        if self.crowd is not self.engine and self.depth == 1 and now > self._calm_at:
            self._alone.put(job)
        else:
            self._turns.put(job)
            self._arrived.put(True)

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
        self._alone.put(None)
        for _ in self._workers:
            self._arrived.put(False)
        for worker in self._workers:
            worker.join()

    def _work_alone(self) -> None:
        while (job := self._alone.get()) is not None:
            self._answer([job], self.engine)

    def _work(self) -> None:
        while self._arrived.get():
            if (first := self._turns.pop()) is not None:  # None: another worker took it along
                self._answer(self._gathered(first), self.crowd)
        while (job := self._turns.pop()) is not None:
            self._answer([job], self.crowd)

    def _gathered(self, first: Job) -> list[Job]:
        """`first` and those that are worth answering with it."""
        jobs = [first]
        if len(self.costs) == 1:
            return jobs
        self._wait_for_more(first)
        size = worth(first.batch + self._turns.rows, self.costs, self.crowd.fills) - first.batch
        while size > 0 and (job := self._turns.pop(size)) is not None:
            jobs.append(job)
            size -= job.batch
        return jobs

    def _wait_for_more(self, first: Job) -> None:
        """While other requests are known to be on their way, at most the delay; never for one that is alone."""
        limit, seen = first.queued + self.terms.delay_s, list[bool]()
        with suppress(Empty):
            while (left_s := limit - time.perf_counter()) > 0 and all(seen):
                waiting = first.batch + self._turns.rows
                if waiting >= max(self.costs) or self.depth <= waiting:
                    break
                seen.append(self._arrived.get(timeout=left_s))
        for one in seen:  # whoever is not taken along needs a worker still
            self._arrived.put(one)

    def _answer(self, jobs: list[Job], engine: Engine) -> None:
        self._pacer.wait()
        started = time.perf_counter()
        fit: list[Job] = []
        for job in jobs:
            refusal = self._late(job, started)
            if refusal is None:
                fit.append(job)
            else:
                self._hand(job, refusal)
        if not fit:
            return
        for job, outcome in zip(fit, self._outcomes(fit, engine, started), strict=True):
            self._hand(job, outcome)

    def _hand(self, job: Job, outcome: Outcome) -> None:
        self.release()
        job.done(outcome)

    def _late(self, job: Job, now: float) -> ToolchainError | None:
        if job.deadline is not None and now > job.deadline:
            return Expired(f"waited {(now - job.queued) * 1e3:.0f} ms in the queue, past its time; try again later")
        # a client that closed only its own half may still be reading: it is answered where nobody waits for that
        return Gone("the client left") if job.gone() and self._turns.rows else None

    def _outcomes(self, jobs: list[Job], engine: Engine, started: float) -> list[Outcome]:
        rows = sum(job.batch for job in jobs)
        try:
            outputs = engine.infer(joined(jobs))
        except LostDevice as error:
            self._lost(str(error))
            return [Unavailable(str(error), "lost_device", RESTART_S)] * len(jobs)
        except Exception as error:  # whatever an engine throws, the worker must live and the client be told
            if len(jobs) > 1:  # one request's fault is not the others'
                return [outcome for job in jobs for outcome in self._outcomes([job], engine, started)]
            return [EngineFault(f"the engine failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")]
        took = time.perf_counter() - started
        self._learn(took / rows / max(1, engine.requests))
        parts = parted(outputs, [job.batch for job in jobs]) if len(jobs) > 1 else [outputs]
        return [
            Answer(part, job.batch, started - job.queued, took, rows, number == 0)
            for number, (job, part) in enumerate(zip(jobs, parts, strict=True))
        ]

    def _learn(self, row_s: float) -> None:
        """The workers write this without a lock: a lost update of a running mean does no harm."""
        self._row_s = row_s if not self._row_s else self._row_s + FORGET * (row_s - self._row_s)
