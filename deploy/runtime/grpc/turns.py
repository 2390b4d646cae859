"""Connections that have more to read than one turn allows, whoever sends it: together they get a share of each round of
the event loop, so that hundreds of them hold up nobody else.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN_S = 0.002


class TurnQueue:
    """add() is for the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter) -> None:
        self._loop, self._clock = loop, clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def add(self, work: Callable[[], None]) -> None:
        """Call `work` once, after what was added before."""
        self._waiting.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        end = self._clock() + TURN_S
        try:
            while self._waiting:
                self._waiting.popleft()()
                if self._clock() >= end:
                    break
        finally:
            self._schedule()
