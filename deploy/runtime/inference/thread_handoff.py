"""Work from other threads, done on the event loop's: what call_soon_threadsafe does, for a third of its price.

asyncio is woken by a byte through a pair of sockets, which it reads until there is none, and makes an object and a
context for each call. Here a counter of the kernel's is raised (eventfd(2)), and all that waits is done at once.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from deploy.runtime.inference.event_loop import PatientLoop


class Landing:
    """`soon` may be called on any thread; the work is done in its order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._raised = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = loop
        loop.add_reader(self._raised, self._land)

    def __del__(self) -> None:
        os.close(self._raised)

    def wait_while(self, full: Callable[[], bool]) -> None:
        """A loop that can be patient waits for what lands here, while `full`."""
        if isinstance(self._loop, PatientLoop):
            self._loop.wait_while(full, self._raised)

    def soon(self, work: Callable[..., None], *given: Any) -> None:
        self._waiting.append((work, given))
        os.eventfd_write(self._raised, 1)

    def _land(self) -> None:
        os.eventfd_read(self._raised)
        try:
            while self._waiting:
                work, given = self._waiting.popleft()
                work(*given)
        finally:
            if self._waiting:  # one has raised: the others' turn comes all the same
                os.eventfd_write(self._raised, 1)
