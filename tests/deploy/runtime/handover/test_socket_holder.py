"""A real door in a process of its own, and servers that change behind it under real clients."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.runtime.handover.acceptor import LINGER_S, Acceptor
from deploy.runtime.handover.socket_holder import LIVE, SOCKET, active_container, receive_socket, run_socket_holder
from deploy.runtime.logs import Log
from tests.deploy.runtime.server import PATIENCE_S
from toolchain.errors import DeviceError

KEEP = (
    "import sys, pathlib; from deploy.runtime.handover.socket_holder import run_socket_holder; "
    "run_socket_holder(pathlib.Path(sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def a_door(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", KEEP, str(folder), str(port)]) as process:
        for _ in range(200):
            if (folder / SOCKET).exists() and _listens(folder):
                break
            time.sleep(0.05)
        try:
            yield process
        finally:
            process.kill()


def _listens(folder: Path) -> bool:
    try:
        found = receive_socket(folder)
    except OSError:
        return False
    found.listening.close()
    found.link.close()
    return True


class Named(asyncio.Protocol):
    """Says its server's name and hangs up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.name.encode())
        transport.close()


class Behind(threading.Thread):
    """A server in a thread of its own; `ready` decides whether it may open, `stands` is what it was told last."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(daemon=True)
        self.folder, self.named, self.ready, self.stands = folder, name, True, False

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended, self.loop = asyncio.Event(), loop

        async def opened(listening: socket.socket) -> asyncio.Server:
            return await loop.create_server(lambda: Named(self.named), sock=listening)

        def entered(stands: bool) -> None:
            self.stands = stands

        door = Acceptor(self.folder, self.named, lambda: self.ready, opened, entered, Log("error"))
        watching = asyncio.create_task(door.watch())
        await self.ended.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.join(5)


def asked(port: int, timeout_s: float = PATIENCE_S) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout_s) as client:
        client.settimeout(timeout_s)
        return client.recv(100).decode()


def until(good: object, seconds: float = PATIENCE_S) -> None:
    assert callable(good)
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_client_is_refused_while_servers_change(tmp_path: Path) -> None:
    port, answers, end = free_port(), Counter[str](), threading.Event()

    def ask() -> None:
        while not end.is_set():
            try:
                answers[asked(port)] += 1
            except OSError as error:
                answers[repr(error)] += 1

    with a_door(tmp_path, port):
        (tmp_path / LIVE).write_text("old\n")
        old, new = Behind(tmp_path, "old"), Behind(tmp_path, "new")
        old.start()
        until(lambda: old.stands)
        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        new.start()
        for name, other in (("new", old), ("old", new), ("new", old)):
            (tmp_path / LIVE).write_text(name)
            until(lambda other=other: not other.stands)
        old.end()
        until(lambda: min(answers["old"], answers["new"]) > 10)
        end.set()
        for client in clients:
            client.join()
        new.end()
    assert set(answers) == {"old", "new"}, answers
    assert min(answers.values()) > 10


def test_clients_wait_while_no_server_is_there_and_one_that_is_not_ready_does_not_open(tmp_path: Path) -> None:
    port = free_port()
    with a_door(tmp_path, port):
        (tmp_path / LIVE).write_text("only")
        server = Behind(tmp_path, "only")
        server.ready = False
        server.start()
        with socket.create_connection(("127.0.0.1", port), 5) as waiting:
            waiting.settimeout(4 * LINGER_S)
            with pytest.raises(TimeoutError):
                waiting.recv(100)
            server.ready = True
            waiting.settimeout(PATIENCE_S)
            assert waiting.recv(100) == b"only"
        server.end()


def test_a_door_that_is_killed_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / LIVE).write_text("only")
    server = Behind(tmp_path, "only")
    server.start()
    with a_door(tmp_path, port):
        until(lambda: server.stands)
        assert asked(port) == "only"
    until(lambda: not server.stands)
    with a_door(tmp_path, port):
        until(lambda: server.stands)
        assert asked(port) == "only"
    server.end()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(DeviceError, match=r"cannot listen on 127.0.0.1:\d+ \(Address already in use\)"):
            run_socket_holder(tmp_path, "127.0.0.1", taken.getsockname()[1])
    assert active_container(tmp_path) == ""
