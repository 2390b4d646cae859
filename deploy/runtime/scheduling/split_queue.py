"""Requests of many rows that wait, and their pieces on the way to the engine, a few at a time.

Of those who wait, who has had the fewest rows is next, by address and then by client: neither many connections nor
large requests get an address more than its share, and the requests of others wait for the few pieces at most. Knows no
engine.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from heapq import heappop, heappush, heapreplace
from itertools import count

from deploy.runtime.scheduling.fair_queue import InferenceOutcome, QueuedRequest
from deploy.runtime.scheduling.split_request import SplitRequest


class RowShares:
    """Whose turn it is: who has had the fewest rows. A newcomer begins where all are on average, before those who have
    had as many. Not for several threads."""

    def __init__(self) -> None:
        self._order: list[tuple[float, bool, int, Hashable]] = []  # rows, whether any were had here, arrival, who
        self._arrivals, self._average = count(), 0.0

    def add(self, who: Hashable) -> None:
        heappush(self._order, (self._average, False, next(self._arrivals), who))

    def first(self) -> Hashable:
        return self._order[0][3]

    def count_rows(self, rows: int, stays: bool) -> None:
        """The first one gets `rows`, and waits for more or leaves."""
        had, _, _, who = self._order[0]
        self._average = max(self._average, had) + rows / len(self._order)
        if stays:
            heapreplace(self._order, (had + rows, True, next(self._arrivals), who))
        else:
            heappop(self._order)


class SplitOrder:
    """The waiting requests by address and client, and who is next. Not for several threads."""

    def __init__(self, call_rows: int) -> None:
        self._call_rows = call_rows
        self._groups = RowShares()
        self._clients: dict[Hashable, tuple[RowShares, dict[Hashable, deque[SplitRequest]]]] = {}  # by group

    def put(self, split: SplitRequest) -> None:
        client, group = split.request.client, split.request.group
        if group not in self._clients:
            self._clients[group] = RowShares(), {}
            self._groups.add(group)
        clients, waiting = self._clients[group]
        if client not in waiting:
            waiting[client] = deque()
            clients.add(client)
        waiting[client].append(split)

    def pop(self) -> QueuedRequest | None:
        """The next piece; None when nothing waits."""
        while self._clients:
            group = self._groups.first()
            clients, waiting = self._clients[group]
            client = clients.first()
            split = waiting[client][0]
            piece = split.cut(self._call_rows)  # None: it has failed
            if not split.rows_left:
                waiting[client].popleft()
            if not waiting[client]:
                del waiting[client]
            rows = 0 if piece is None else piece.rows
            clients.count_rows(rows, stays=client in waiting)
            self._groups.count_rows(rows, stays=bool(waiting))
            if not waiting:
                del self._clients[group]
            if piece is not None:
                return piece
        return None


class SplitQueue:
    """For any number of threads. call_rows: of a piece; max_pieces: how many are with the engine or before it; start():
    passes one on."""

    def __init__(self, call_rows: int, max_pieces: int, start: Callable[[QueuedRequest], None]) -> None:
        self._order, self._max_pieces, self._start = SplitOrder(call_rows), max_pieces, start
        self._pieces = 0
        self._is_starting = False
        self._idle = threading.Condition()

    def put(self, request: QueuedRequest) -> None:
        with self._idle:
            self._order.put(SplitRequest(request))
        self._start_pieces()

    def collect(self, piece: QueuedRequest, outcome: InferenceOutcome) -> InferenceOutcome | None:
        """The outcome of the request that `piece` is of, once it is complete; None before."""
        assert piece.split is not None
        whole = piece.split.collect(piece, outcome)
        with self._idle:
            self._pieces -= 1
        self._start_pieces()
        return whole

    def wait_until_idle(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: not self._pieces and not self._is_starting)

    def _start_pieces(self) -> None:
        """One thread at a time: a piece may fail at once, and must not start the next from within."""
        with self._idle:
            if self._is_starting:
                return
            self._is_starting = True
        while True:
            with self._idle:
                piece = self._order.pop() if self._pieces < self._max_pieces else None
                if piece is None:
                    self._is_starting = False
                    self._idle.notify_all()
                    return
                self._pieces += 1
            self._start(piece)
