"""A request of more rows than an engine call should have: cut into calls, between which others get theirs, and put
together again.

No row is copied on the way in, and an output's once. What a request holds is held until the last of its calls has
ended, also where one of them failed: its memory counts for as long. Knows neither queue nor engine.
"""

from threading import Lock

import numpy as np

from deploy.runtime.scheduling.errors import engine_fault
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult, QueuedRequest
from toolchain.errors import ToolchainError
from toolchain.records.tensors import Array


class SplitRequest:
    """For any number of threads, but cut() for one at a time."""

    def __init__(self, request: QueuedRequest) -> None:
        self._feeds, self.request = request.feeds, request._replace(feeds={}, split=self)
        self.rows_left = request.rows  # to be cut
        self._lock = Lock()
        self._running = 0
        self.error: ToolchainError | None = None  # of the first call that failed
        self._outputs: dict[str, Array] = {}
        self._spans_s: list[tuple[float, float]] = []  # of each call: from when, since it was queued, and how long
        self._calls: list[int] = []
        self._batch_rows = 0

    def cut(self, most: int) -> QueuedRequest | None:
        """The next `most` rows at most; None, and nothing is left, once a call has failed. Only the first piece has a
        deadline: what has been started is finished."""
        with self._lock:
            if self.error is not None:
                self.rows_left = 0
                return None
            start, rows = self.request.rows - self.rows_left, min(most, self.rows_left)
            self.rows_left -= rows
            self._running += 1
            feeds = {name: array[start : start + rows] for name, array in self._feeds.items()}
            if not self.rows_left:
                self._feeds = {}
            deadline = None if start else self.request.deadline
            return self.request._replace(feeds=feeds, rows=rows, start=start, deadline=deadline)

    def collect(self, piece: QueuedRequest, outcome: InferenceOutcome) -> InferenceOutcome | None:
        """The request's outcome once no call is running and none is to come; None before."""
        with self._lock:
            self._running -= 1
            if self.error is None:
                self.error = outcome if isinstance(outcome, ToolchainError) else self._add(piece, outcome)
            if self.error is not None:
                self._feeds, self._outputs = {}, {}
            if self._running or (self.rows_left and self.error is None):
                return None
            return self._result() if self.error is None else self.error

    def _add(self, piece: QueuedRequest, result: InferenceResult) -> ToolchainError | None:
        self._spans_s.append((result.queue_s, result.infer_s))
        self._calls += result.calls
        self._batch_rows = max(self._batch_rows, result.batch_rows)
        try:
            for name, rows in result.outputs.items():
                if name not in self._outputs:
                    self._outputs[name] = np.empty((self.request.rows, *rows.shape[1:]), rows.dtype)
                self._outputs[name][piece.start : piece.start + piece.rows] = rows
        except ValueError as error:  # rows of another shape than those before
            return engine_fault(error)
        return None

    def _result(self) -> InferenceResult:
        """Its time in the engine is that of any of its calls; all other time it has waited."""
        busy_s = end_s = 0.0
        for start_s, took_s in sorted(self._spans_s):
            busy_s += max(0.0, start_s + took_s - max(start_s, end_s))
            end_s = max(end_s, start_s + took_s)
        rows, calls = self.request.rows, tuple(self._calls)
        return InferenceResult(self._outputs, rows, end_s - busy_s, busy_s, self._batch_rows, calls)
