"""The sockets on which a server listens for HTTP: main port, admin port, Unix socket. Knows nothing of models."""

import asyncio
import os
import socket
from pathlib import Path

from deploy.runtime.http.access import AccessOptions, AccessRules, PortRole, Secrets
from deploy.runtime.http.limits import ConnectionTable, Limits, Peer
from deploy.runtime.http.listener import Listener, admin_limits
from deploy.runtime.http.page import is_page
from deploy.runtime.http.routes import Router
from deploy.runtime.logs import Log
from toolchain.errors import DeviceError

QUEUED_CONNECTIONS = 512
ACCEPTED_AT_ONCE = 16  # connections before others are read from: asyncio takes as many as its `backlog`


class Ports:
    """open() comes first: its main port is also the one that accept_on() serves."""

    def __init__(self, router: Router, secrets: Secrets, limits: Limits, log: Log) -> None:
        self._router, self._secrets, self._limits, self._log = router, secrets, limits, log
        self._loop = asyncio.get_running_loop()
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.Server] = []

    @property
    def connections(self) -> tuple[Peer, ...]:
        return tuple(peer for listener in self._listeners for peer in listener.connections)

    async def open(self, host: str, port: int, access: AccessOptions) -> None:
        """The main port and, where `access` names one, the admin port; DeviceError: an address is taken."""
        if access.admin_port is None:
            await self._open_port(self._rules("all"), host, port, "port")
            return
        main_rules, admin_rules = self._rules("main"), self._rules("admin")
        main = await self._open_port(main_rules, host, port, "port")
        admin = await self._open_port(admin_rules, access.admin_host, access.admin_port, "admin-port")
        main_rules.other_port, admin_rules.other_port = port_of(admin), port_of(main)

    async def open_unix(self, path: Path) -> None:
        """For clients on this host, without the network stack and without TLS: the file's permissions decide."""
        listener = self._add_listener(self._rules("all"), has_tls=False)
        try:
            if path.is_socket():
                path.unlink()  # left by a server that was killed
            self._servers.append(await self._loop.create_unix_server(listener.protocol, path, backlog=ACCEPTED_AT_ONCE))
            set_queue(self._servers[-1])
        except OSError as error:
            raise DeviceError(f"cannot listen on {path} ({error.strerror}); choose another: --unix-socket") from error
        self._log.write("info", "listening on a file", unix_socket=path)

    async def accept_on(self, listening: socket.socket, backlog: int) -> asyncio.Server:
        """The main port's connections from a socket that someone else holds, whose queue all servers share."""
        server = await self._loop.create_server(self._listeners[0].protocol, sock=listening, backlog=ACCEPTED_AT_ONCE)
        set_queue(server, backlog)
        return server

    def close(self) -> None:
        """Accept no more connections; those that are open stay."""
        for server in self._servers:
            server.close()

    def _rules(self, role: PortRole) -> AccessRules:
        return AccessRules(self._secrets, is_page, role)

    def _add_listener(self, rules: AccessRules, has_tls: bool = True, is_admin: bool = False) -> Listener:
        connections = ConnectionTable() if is_admin else self._router.connections
        limits = admin_limits(self._limits) if is_admin else self._limits
        tls = self._secrets.tls if has_tls else None
        self._listeners.append(Listener(self._router, connections, rules, limits, tls, self._loop.time))
        return self._listeners[-1]

    async def _open_port(self, rules: AccessRules, host: str, port: int, flag: str) -> asyncio.Server:
        listener = self._add_listener(rules, is_admin=flag == "admin-port")
        try:
            server = await self._loop.create_server(listener.protocol, host, port, backlog=ACCEPTED_AT_ONCE)
        except OSError as error:  # asyncio's text is long; an unknown host name has no errno of the system's
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            variable = flag.upper().replace("-", "_")
            raise DeviceError(
                f"cannot listen on {host}:{port} ({reason}); choose another: --{flag} or {variable}"
            ) from error
        set_queue(server)
        self._servers.append(server)
        event = "listening" if flag == "port" else "listening for control"
        self._log.write("info", event, host=host, port=port_of(server), tls=self._secrets.tls is not None)
        return server


def set_queue(server: asyncio.Server, size: int = QUEUED_CONNECTIONS) -> None:
    """How many connections the kernel keeps until they are accepted: not the number that is accepted at once."""
    for listening in server.sockets:
        with socket.socket(fileno=os.dup(listening.fileno())) as same:
            same.listen(size)


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
