"""A fair (round-robin) queue: the waiting requests of all clients, one client after the other. Knows nothing of
engines.

Pieces of large requests (split_queue.py) and all others get as many rows as each other, while both wait.

A client with a hundred waiting requests (many streams of one gRPC connection) delays another client's first request by
one of its own, not by a hundred.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

from toolchain.errors import ToolchainError
from toolchain.records.tensors import Array, Feeds


class InferenceResult(NamedTuple):
    """Outputs by name, and how long the request waited and ran. rows: its own; batch_rows: those of the engine call
    that it was part of, the largest where there were several; calls: the rows of each call that it was the first
    request of (so that calls can be counted)."""

    outputs: dict[str, Array]
    rows: int
    queue_s: float
    infer_s: float
    batch_rows: int
    calls: tuple[int, ...]


InferenceOutcome = InferenceResult | ToolchainError
OnOutcome = Callable[[InferenceOutcome], None]


def never_gone() -> bool:
    """The `is_gone` of a client that cannot disconnect."""
    return False


class WholeRequest(Protocol):
    """What pieces are of (split_request.py). rows_left: those that are no piece yet; error: of the first piece that has
    failed; collect(): takes a piece's outcome, and returns that of the whole once it is known."""

    @property
    def rows_left(self) -> int: ...
    @property
    def error(self) -> ToolchainError | None: ...
    def collect(self, piece: "QueuedRequest", outcome: InferenceOutcome) -> InferenceOutcome | None: ...


class QueuedRequest(NamedTuple):
    """queued, deadline: seconds of time.perf_counter. client, group: who sent it and from which address, for fairness;
    is_gone: whether that client has disconnected. split, start: what this is a piece of, and its first row there."""

    feeds: Feeds
    rows: int
    on_outcome: OnOutcome
    queued: float
    deadline: float | None = None
    client: Hashable = None
    is_gone: Callable[[], bool] = never_gone
    group: Hashable = None
    split: WholeRequest | None = None
    start: int = 0


class FairQueue:
    """For any number of threads; pop() never waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, deque[QueuedRequest]] = {}  # in the order in which clients are served
        self._pieces = deque[QueuedRequest]()
        self._owed_rows = 0  # to the others, before the next piece
        self.rows = 0

    def put(self, job: QueuedRequest) -> None:
        with self._lock:
            if job.split is None:
                self._waiting.setdefault(job.client, deque()).append(job)
            else:
                self._pieces.append(job)
            self.rows += job.rows

    def pop(self, max_rows: int | None = None) -> QueuedRequest | None:
        """The next request; None when nothing waits, or when the next one has more than `max_rows` rows."""
        with self._lock:
            if self._pieces and (not self._waiting or self._owed_rows <= 0):
                return self._pop_piece(max_rows)
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
            self._owed_rows -= job.rows
            return job

    def _pop_piece(self, max_rows: int | None) -> QueuedRequest | None:
        if max_rows is not None and self._pieces[0].rows > max_rows:
            return None
        job = self._pieces.popleft()
        self.rows -= job.rows
        self._owed_rows = job.rows
        return job
