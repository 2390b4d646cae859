"""`python -m benchmarks.shipping.handover`: three ways to replace the server behind a port: lost requests and cost.

A socket holder that passes its listening socket on (deploy/runtime/handover/socket_holder.py), two servers that share
the port by SO_REUSEPORT, and a proxy (HAProxy, if installed). Minimal servers in separate processes; the clients open a
connection for every request, which is the hardest case.
"""

import asyncio
import http.client
import multiprocessing
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.rows import Row, print_rows, row
from deploy.gate.statistics import median
from deploy.runtime.handover.acceptor import Acceptor
from deploy.runtime.handover.socket_holder import BACKLOG, LIVE, run_socket_holder
from deploy.runtime.logs import Log

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLIENTS, SWITCHES, BETWEEN_S, PROBES = 8, 20, 0.8, 2000
PICTURE_BYTES = 224 * 224 * 3
SPAWN = multiprocessing.get_context("spawn")


class Server(asyncio.Protocol):
    """Answers each complete request, a GET or a POST of an image."""

    left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.left:
            head, _, data = data.partition(b"\r\n\r\n")
            self.closes = b"connection: close" in head.lower()
            self.left = PICTURE_BYTES if head.startswith(b"POST") else 0
        self.left -= min(self.left, len(data))
        if not self.left:
            self.transport.write(ANSWER)
            if self.closes:
                self.transport.close()


def behind_door(folder: Path, name: str, end: Event) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def opened(listening: socket.socket) -> asyncio.Server:
            return await loop.create_server(Server, sock=listening, backlog=BACKLOG)

        door = Acceptor(folder, name, lambda: True, opened, lambda _: None, Log("error"))
        watching = asyncio.create_task(door.watch())
        await asyncio.to_thread(end.wait)
        watching.cancel()
        await asyncio.sleep(1)  # accepted connections are answered

    asyncio.run(run())


def on_port(port: int, shared: bool, up: Event, end: Event) -> None:
    """shared: by SO_REUSEPORT. On SIGTERM it drains: it closes the socket, then answers what it has accepted."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", port, reuse_port=shared, backlog=BACKLOG)
        up.set()
        await asyncio.to_thread(end.wait)
        server.close()
        await asyncio.sleep(1)

    asyncio.run(run())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request_status(port: int) -> str:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        client.request("GET", "/", headers={"Connection": "close"})
        return str(client.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        client.close()


@contextmanager
def clients(port: int) -> "Iterator[Counter[str]]":
    end, count = threading.Event(), Counter[str]()

    def ask() -> None:
        while not end.is_set():
            count[request_status(port)] += 1

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    yield count
    end.set()
    for thread in threads:
        thread.join()


def lost(count: "Counter[str]") -> int:
    return sum(times for answer, times in count.items() if answer != "200")


def door_row(folder: Path) -> Row:
    port = free_port()
    keeper = SPAWN.Process(target=run_socket_holder, args=(folder, "127.0.0.1", port), daemon=True)
    keeper.start()
    ends = {name: SPAWN.Event() for name in ("a", "b")}
    servers = [SPAWN.Process(target=behind_door, args=(folder, name, end)) for name, end in ends.items()]
    (folder / LIVE).write_text("a")
    for server in servers:
        server.start()
    while request_status(port) != "200":
        time.sleep(0.1)
    with clients(port) as count:
        for number in range(SWITCHES):
            (folder / LIVE).write_text("ba"[number % 2])
            time.sleep(BETWEEN_S)
    for end in ends.values():
        end.set()
    keeper.terminate()
    return row(
        f"socket holder: requests lost in {SWITCHES} switches",
        lost(count),
        "<=",
        0,
        "",
        f"of {count.total()}: {dict(count)}",
    )


def shared_port_row() -> Row:
    port = free_port()

    def started() -> tuple[Event, Event]:
        up, end = SPAWN.Event(), SPAWN.Event()
        SPAWN.Process(target=on_port, args=(port, True, up, end)).start()
        up.wait(10)
        return up, end

    _, old = started()
    with clients(port) as count:
        for _ in range(SWITCHES):
            _, new = started()
            old.set()
            old = new
            time.sleep(BETWEEN_S)
    old.set()
    what = f"SO_REUSEPORT: requests lost in {SWITCHES} changes"
    return row(what, lost(count), ">=", 0, "(no bound)", f"of {count.total()}: {dict(count)}")


def proxy_row(folder: Path) -> Row:
    """The latency that a proxy adds to a request, over kept connections, interleaved with no proxy."""
    behind, before = free_port(), free_port()
    up, end = SPAWN.Event(), SPAWN.Event()
    SPAWN.Process(target=on_port, args=(behind, False, up, end)).start()
    up.wait(10)
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
        f"frontend f\n bind 127.0.0.1:{before}\n default_backend b\nbackend b\n server s 127.0.0.1:{behind}\n"
    )
    with subprocess.Popen(["haproxy", "-q", "-f", str(folder / "haproxy.cfg")]) as proxy:
        for _ in range(100):
            if request_status(before) == "200":
                break
            time.sleep(0.05)
        plain, through = timed(behind), timed(before)
        times: dict[str, list[float]] = {"plain": [], "through": []}
        for _ in range(PROBES):
            times["plain"].append(plain())
            times["through"].append(through())
        proxy.terminate()
    end.set()
    more = median(times["through"]) - median(times["plain"])
    note = f"p50 {median(times['plain']):.3f} ms without, {median(times['through']):.3f} ms through it"
    return row("HAProxy: added latency, p50", more, ">=", 0, "ms (no bound)", note)


def timed(port: int) -> Callable[[], float]:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = bytes(PICTURE_BYTES)

    def ask() -> float:
        began = time.perf_counter()
        client.request("POST", "/", body)
        client.getresponse().read()
        return (time.perf_counter() - began) * 1000

    return ask


def main() -> None:
    with tempfile.TemporaryDirectory() as at, suppress(KeyboardInterrupt):
        rows = [door_row(Path(at)), shared_port_row()]
        if shutil.which("haproxy"):
            rows.append(proxy_row(Path(at)))
        print_rows(rows)


if __name__ == "__main__":
    main()
