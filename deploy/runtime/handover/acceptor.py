"""A server's side of the socket handover: accepts from the holder's socket while its container is the active one and
the server is ready. Knows nothing of what is served.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from deploy.runtime.handover.socket_holder import HandedSocket, active_container, receive_socket
from deploy.runtime.logs import Log

POLL_S = 0.05
LINGER_S = 0.5  # another container is active: stop accepting once it has had time to start
OpenServer = Callable[[socket.socket], Awaitable[asyncio.Server]]


class Acceptor:
    """watch() runs until cancelled. open_server: makes a server from a listening socket; on_change: called with True
    when this server starts accepting, with False when it stops."""

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
        with suppress(OSError):  # no holder yet, or not any more: tried again
            self._handed = await asyncio.to_thread(receive_socket, self._folder)
            self._server = await self._open_server(self._handed.listening)
            self._on_change(True)
            self._log.write("info", "door opened", container=self._container)

    def _is_holder_gone(self) -> bool:
        """Whether the holder that handed this socket over has ended: another then listens in its place."""
        assert self._handed is not None
        try:
            return not self._handed.link.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stop_accepting(self) -> None:
        """Leave the queued connections to the other servers."""
        if self._server is not None:
            self._server.close()
            self._on_change(False)
            self._log.write("info", "door left", container=self._container)
        if self._handed is not None:
            self._handed.link.close()
        self._server = self._handed = None
