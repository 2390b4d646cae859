"""Work from other threads, done on the event loop's: what call_soon_threadsafe does, for a third of its price.

asyncio is woken by a byte through a pair of sockets, which it reads until there is none, and makes an object and a
context for each call. Here a counter of the kernel's is raised (eventfd(2)), and all that waits is done at once.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from deploy.runtime.inference.event_loop import DeferredPollingLoop


class CallbackQueue:
    """`soon` may be called on any thread; the work is done in its order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = loop
        loop.add_reader(self._eventfd, self._run_waiting)

    def __del__(self) -> None:
        os.close(self._eventfd)

    def defer_polling_while(self, is_saturated: Callable[[], bool]) -> None:
        """A loop that can be patient waits for what lands here, while `full`."""
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
            if self._waiting:  # one has raised: the others' turn comes all the same
                os.eventfd_write(self._eventfd, 1)
