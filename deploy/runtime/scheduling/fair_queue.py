"""Who is next: the waiting jobs of all clients, one client after the other. Knows nothing of engines.

A client with a hundred requests waiting (many streams of one gRPC connection) delays another's first by one of its own
jobs, not by a hundred.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from toolchain.errors import ToolchainError
from toolchain.records.tensors import Array, Feeds


class Answer(NamedTuple):
    """Outputs by name, and how long the request waited and ran. batch: its own rows; together: rows of the engine's
    call that it was part of; leads: whether it is the first of that call (so that calls can be counted)."""

    outputs: dict[str, Array]
    batch: int
    queue_s: float
    infer_s: float
    together: int
    leads: bool = True


Outcome = Answer | ToolchainError
Done = Callable[[Outcome], None]


def stays() -> bool:
    """`gone` of a client that cannot leave."""
    return False


class Job(NamedTuple):
    """queued, deadline: seconds of time.perf_counter. client: whose it is, for fairness; gone: whether it has left."""

    feeds: Feeds
    batch: int
    done: Done
    queued: float
    deadline: float | None = None
    client: Hashable = None
    gone: Callable[[], bool] = stays


class Turns:
    """A queue of jobs for any number of threads; pop() never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[Job]] = {}  # in the order in which they are served
        self.rows = 0

    def put(self, job: Job) -> None:
        with self._lock:
            self._waiting.setdefault(job.client, deque()).append(job)
            self.rows += job.batch

    def pop(self, most: int | None = None) -> Job | None:
        """The next job; None when nothing waits, or when it has more than `most` rows."""
        with self._lock:
            if not self._waiting:
                return None
            client = next(iter(self._waiting))
            jobs = self._waiting[client]
            if most is not None and jobs[0].batch > most:
                return None
            job = jobs.popleft()
            del self._waiting[client]
            if jobs:
                self._waiting[client] = jobs  # last in the order
            self.rows -= job.batch
            return job
