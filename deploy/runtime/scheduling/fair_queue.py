"""A fair (round-robin) queue: the waiting requests of all clients, one client after the other. Knows nothing of
engines.

A client with a hundred waiting requests (many streams of one gRPC connection) delays another client's first request by
one of its own, not by a hundred.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from toolchain.errors import ToolchainError
from toolchain.records.tensors import Array, Feeds


class InferenceResult(NamedTuple):
    """Outputs by name, and how long the request waited and ran. rows: its own; batch_rows: those of the engine call
    that it was part of; is_first: whether it is the first request of that call (so that calls can be counted)."""

    outputs: dict[str, Array]
    rows: int
    queue_s: float
    infer_s: float
    batch_rows: int
    is_first: bool = True


InferenceOutcome = InferenceResult | ToolchainError
OnOutcome = Callable[[InferenceOutcome], None]


def never_gone() -> bool:
    """The `is_gone` of a client that cannot disconnect."""
    return False


class QueuedRequest(NamedTuple):
    """queued, deadline: seconds of time.perf_counter. client: who sent it, for fairness; is_gone: whether that client
    has disconnected."""

    feeds: Feeds
    rows: int
    on_outcome: OnOutcome
    queued: float
    deadline: float | None = None
    client: Hashable = None
    is_gone: Callable[[], bool] = never_gone


class FairQueue:
    """For any number of threads; pop() never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[QueuedRequest]] = {}  # in the order in which clients are served
        self.rows = 0

    def put(self, job: QueuedRequest) -> None:
        with self._lock:
            self._waiting.setdefault(job.client, deque()).append(job)
            self.rows += job.rows

    def pop(self, max_rows: int | None = None) -> QueuedRequest | None:
        """The next request; None when nothing waits, or when the next one has more than `max_rows` rows."""
        with self._lock:
            if not self._waiting:
                return None
            client = next(iter(self._waiting))
            jobs = self._waiting[client]
            if max_rows is not None and jobs[0].rows > max_rows:
                return None
            job = jobs.popleft()
            del self._waiting[client]
            if jobs:
                self._waiting[client] = jobs  # now the last client in the order
            self.rows -= job.rows
            return job
