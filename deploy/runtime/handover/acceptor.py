"""A server's side of the door: accepts from it while its container is the one that is named, and the server is ready.

Knows nothing of what is served.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from deploy.runtime.handover.socket_holder import Held, held, live
from deploy.runtime.logs import Log

EVERY_S = 0.05
LINGER_S = 0.5  # another was named: the door is left once that one has had time to open
Open = Callable[[socket.socket], Awaitable[asyncio.Server]]


class Doorway:
    """watch() until cancelled; `open_` makes a server of a listening socket; `entered` is told when it stands in the
    door (True) and when it has left (False)."""

    def __init__(
        self,
        folder: Path,
        name: str,
        ready: Callable[[], bool],
        open_: Open,
        entered: Callable[[bool], None],
        log: Log,
    ) -> None:
        self._folder, self._name, self._ready, self._open = folder, name, ready, open_
        self._entered, self._log = entered, log
        self._held: Held | None = None
        self._server: asyncio.Server | None = None
        self._unnamed_s = 0.0

    async def watch(self) -> None:
        try:
            while True:
                named = live(self._folder) == self._name
                self._unnamed_s = 0.0 if named else self._unnamed_s + EVERY_S
                if self._server is not None and (self._gone() or self._unnamed_s >= LINGER_S):
                    self.leave()
                if self._server is None and named and self._ready():
                    await self._enter()
                await asyncio.sleep(EVERY_S)
        finally:
            self.leave()

    async def _enter(self) -> None:
        with suppress(OSError):  # no door yet, or not any more: looked for again
            self._held = await asyncio.to_thread(held, self._folder)
            self._server = await self._open(self._held.listening)
            self._entered(True)
            self._log.write("info", "door opened", container=self._name)

    def _gone(self) -> bool:
        """Whether the door that this socket came from has ended: another then listens in its place."""
        assert self._held is not None
        try:
            return not self._held.link.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def leave(self) -> None:
        """Accept nothing more; what is queued is for the others."""
        if self._server is not None:
            self._server.close()
            self._entered(False)
            self._log.write("info", "door left", container=self._name)
        if self._held is not None:
            self._held.link.close()
        self._server = self._held = None
