"""Arrays in, arrays out: checks, a bounded queue, threads that feed the engine, counts. Knows no HTTP.

Dynamic batching has its place between `_take` and `engine.infer`: a worker may take several jobs, put their feeds
together, and hand each its rows. Until then a request is passed whole, whatever its batch.
"""

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from deploy.runtime.engines import Engine
from toolchain.errors import LostDevice, RequestError, ToolchainError
from toolchain.records.tensors import Array, Feeds, TensorSpec, check_feeds

RESTART_S = 10


class Unavailable(ToolchainError):
    """Not now: `reason` is a word for counting; try again after `retry_after_s`."""

    def __init__(self, message: str, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason, self.retry_after_s = reason, retry_after_s


class Expired(ToolchainError):
    """The request's time ran out before the engine could start on it."""


class EngineFault(ToolchainError):
    """The engine failed on a request that fits the model."""


class Answer(NamedTuple):
    """Outputs by name, and how long the request waited and ran."""

    outputs: dict[str, Array]
    batch: int
    queue_s: float
    infer_s: float


Outcome = Answer | ToolchainError
Done = Callable[[Outcome], None]


class Job(NamedTuple):
    feeds: Feeds
    batch: int
    done: Done
    queued: float
    deadline: float | None


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
    `lost`, which is told why once the engine's device is gone for this process.
    """

    def __init__(
        self, engine: Engine, queue_limit: int = 64, max_batch: int = 256, lost: Callable[[str], None] = lambda _: None
    ) -> None:
        self._lost = lost
        self.engine, self.queue_limit, self.max_batch = engine, queue_limit, max_batch
        self.depth = 0  # admitted and not yet answered
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name=f"infer-{number}", daemon=True)
            for number in range(max(1, engine.requests))
        ]
        for worker in self._workers:
            worker.start()

    def admit(self) -> None:
        """Take a place; Unavailable when there is none."""
        with self._lock:
            if self.depth >= self.queue_limit:
                raise Unavailable(
                    f"overloaded: {self.depth} requests are waiting, the limit is {self.queue_limit}", "queue_full"
                )
            self.depth += 1

    def release(self) -> None:
        """Give the place back without asking the engine."""
        with self._lock:
            self.depth -= 1

    def submit(self, feeds: Feeds, done: Done, timeout_s: float | None = None) -> None:
        """Queue an admitted request; RequestError (the place stays taken) when `feeds` do not fit the model."""
        batch = batch_of(self.engine.inputs, feeds, self.max_batch)
        now = time.perf_counter()
        self._jobs.put(Job(feeds, batch, done, now, None if timeout_s is None else now + timeout_s))

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
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()

    def _take(self) -> Job | None:
        return self._jobs.get()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            outcome = self._run(job)
            self.release()
            job.done(outcome)

    def _run(self, job: Job) -> Outcome:
        started = time.perf_counter()
        if job.deadline is not None and started > job.deadline:
            return Expired(f"waited {(started - job.queued) * 1e3:.0f} ms in the queue, past its time; try again later")
        try:
            outputs = self.engine.infer(job.feeds)
        except LostDevice as error:
            self._lost(str(error))
            return Unavailable(str(error), "lost_device", RESTART_S)
        except Exception as error:  # whatever an engine throws, the worker must live and the client be told
            return EngineFault(f"the engine failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return Answer(outputs, job.batch, started - job.queued, time.perf_counter() - started)
