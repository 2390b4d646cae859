"""A thread-safe callback queue: call_soon_threadsafe at a third of its cost.

asyncio wakes its loop by a byte through a pair of sockets and creates an object and a context for each call. Here a
kernel counter is raised (eventfd(2)), and everything that waits is run in one go.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from deploy.runtime.inference.event_loop import DeferredPollingLoop


class CallbackQueue:
    """call_soon() may be called on any thread; callbacks run in its order, on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = loop
        loop.add_reader(self._eventfd, self._run_waiting)

    def __del__(self) -> None:
        os.close(self._eventfd)

    def defer_polling_while(self, is_saturated: Callable[[], bool]) -> None:
        """A DeferredPollingLoop defers its sockets to this queue's callbacks while the engine is saturated."""
        if isinstance(self._loop, DeferredPollingLoop):
            self._loop.defer_while(is_saturated, self._eventfd)

    def call_soon(self, work: Callable[..., None], *given: Any) -> None:
        self._waiting.append((work, given))
        os.eventfd_write(self._eventfd, 1)

    def _run_waiting(self) -> None:
        os.eventfd_read(self._eventfd)
        try:
            while self._waiting:
                work, given = self._waiting.popleft()
                work(*given)
        finally:
            if self._waiting:  # a callback raised: run the others in the next iteration
                os.eventfd_write(self._eventfd, 1)
