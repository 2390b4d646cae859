"""A server's side of the door: accepts from it while its container is the one that is named, and the server is ready.

Knows nothing of what is served.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from deploy.runtime.handover.socket_holder import HandedSocket, active_container, receive_socket
from deploy.runtime.logs import Log

POLL_S = 0.05
LINGER_S = 0.5  # another was named: the door is left once that one has had time to open
OpenServer = Callable[[socket.socket], Awaitable[asyncio.Server]]


class Acceptor:
    """watch() until cancelled; `open_` makes a server of a listening socket; `entered` is told when it stands in the
    door (True) and when it has left (False)."""

    def __init__(
        self,
        folder: Path,
        container: str,
        is_ready: Callable[[], bool],
        open_server: OpenServer,
        on_change: Callable[[bool], None],
        log: Log,
    ) -> None:
        self._folder, self._container, self._is_ready, self._open_server = folder, container, is_ready, open_server
        self._on_change, self._log = on_change, log
        self._handed: HandedSocket | None = None
        self._server: asyncio.Server | None = None
        self._unnamed_s = 0.0

    async def watch(self) -> None:
        try:
            while True:
                named = active_container(self._folder) == self._container
                self._unnamed_s = 0.0 if named else self._unnamed_s + POLL_S
                if self._server is not None and (self._is_holder_gone() or self._unnamed_s >= LINGER_S):
                    self.stop_accepting()
                if self._server is None and named and self._is_ready():
                    await self._start_accepting()
                await asyncio.sleep(POLL_S)
        finally:
            self.stop_accepting()

    async def _start_accepting(self) -> None:
        with suppress(OSError):  # no door yet, or not any more: looked for again
            self._handed = await asyncio.to_thread(receive_socket, self._folder)
            self._server = await self._open_server(self._handed.listening)
            self._on_change(True)
            self._log.write("info", "door opened", container=self._container)

    def _is_holder_gone(self) -> bool:
        """Whether the door that this socket came from has ended: another then listens in its place."""
        assert self._handed is not None
        try:
            return not self._handed.link.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stop_accepting(self) -> None:
        """Accept nothing more; what is queued is for the others."""
        if self._server is not None:
            self._server.close()
            self._on_change(False)
            self._log.write("info", "door left", container=self._container)
        if self._handed is not None:
            self._handed.link.close()
        self._server = self._handed = None
