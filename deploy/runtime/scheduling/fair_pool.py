"""Threads that take the clients' work in turn: a client with a hundred images delays another's by one of them.

Knows nothing of what the work is. ThreadPoolExecutor's queue is first in, first out.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from threading import Lock, Thread, get_ident

from deploy.runtime.scheduling.errors import Unavailable

Work = Callable[[], None]


class RoundRobinQueue:
    """Round robin over groups, and within each over its clients. Not for several threads."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, dict[Hashable, deque[Work]]] = {}  # in the order in which they are served
        self.sizes: Counter[Hashable] = Counter()  # by group

    def put(self, work: Work, client: Hashable, group: Hashable) -> None:
        self._waiting.setdefault(group, {}).setdefault(client, deque()).append(work)
        self.sizes[group] += 1

    def pop(self) -> Work:
        group = next(iter(self._waiting))
        clients = self._waiting.pop(group)
        client = next(iter(clients))
        works = clients.pop(client)
        work = works.popleft()
        if works:
            clients[client] = works  # now the last of its group
        if clients:
            self._waiting[group] = clients
        self.sizes[group] -= 1
        if not self.sizes[group]:
            del self.sizes[group]
        return work


class FairPool:
    """max_waiting: beyond it, or beyond half of it for one group, submit() raises Unavailable. niceness: by which its
    threads step back behind the others of this process. on_error: gets what a piece of work raises."""

    def __init__(
        self,
        name: str,
        threads: int,
        on_error: Callable[[Exception], None],
        max_waiting: int | None = None,
        niceness: int = 0,
    ) -> None:
        self._name, self._threads, self._max_waiting, self._niceness = name, threads, max_waiting, niceness
        self._on_error = on_error
        self._queue, self._lock, self._wakeups = RoundRobinQueue(), Lock(), SimpleQueue[None]()
        self._began: dict[int, float] = {}

    def submit(self, work: Work, client: Hashable = None, group: Hashable = None) -> None:
        """client, group: between whom the threads' time is shared; Unavailable where too much waits already."""
        with self._lock:
            self._check_room(group)
            self._queue.put(work, client, group)
        self._wake()

    def resubmit(self, work: Work, client: Hashable = None, group: Hashable = None) -> None:
        """For work that goes on after others had their turn: it was let in before."""
        with self._lock:
            self._queue.put(work, client, group)
        self._wake()

    def longest_run_s(self) -> float:
        """Seconds since the oldest piece of work that is still running began."""
        now = time.monotonic()
        return max((now - began for began in list(self._began.values())), default=0.0)

    def _check_room(self, group: Hashable) -> None:
        if self._max_waiting is None:
            return
        waiting, mine = self._queue.sizes.total(), self._queue.sizes[group]
        if waiting >= self._max_waiting or (group is not None and mine >= self._max_waiting // 2):
            words = (
                f"overloaded: {waiting} {self._name} are waiting, the limit is {self._max_waiting}, half for an address"
            )
            raise Unavailable(f"{words}; try later", self._name.replace(" ", "_"))

    def _wake(self) -> None:
        self._wakeups.put(None)
        while self._threads:  # at the first work: most servers never need some of their pools
            self._threads -= 1
            Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        if self._niceness:
            os.nice(self._niceness)  # of this thread alone, on Linux
        while True:
            self._wakeups.get()
            with self._lock:
                work = self._queue.pop()
            self._began[get_ident()] = time.monotonic()
            try:
                work()
            except Exception as error:
                self._on_error(error)
            finally:
                del self._began[get_ident()]
                del work  # an idle thread would keep what it holds, pictures of megabytes, until the next
