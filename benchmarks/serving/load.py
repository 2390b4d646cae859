"""`python -m benchmarks.serving.load`: the load generator: connections with one request in flight each.

A closed loop: the next request is sent when the reply is complete. One thread, epoll, requests prepared in advance: the
client shares the server's cores, so each of its microseconds is taken from the server. Its CPU time is reported with
every slice. No connection stays open between slices.
"""

import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.serving.clients.http1 import Http1
from benchmarks.serving.clients.http2 import Http2
from benchmarks.serving.slices import Slice

WARM_S = 0.1
PATIENCE_S = 30.0
SEND_BYTES = 1 << 20
PROTOCOLS: dict[str, Callable[[bytes], Http1 | Http2]] = {"http1": Http1, "grpc": Http2}
EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLET


class Target(msgspec.Struct, frozen=True):
    """address: `host:port`, or the path of a Unix socket; requests: files with one request's bytes each (grpc: its
    message), used in turn by the connections. protocol: http1 or grpc."""

    address: str
    requests: tuple[str, ...]
    protocol: str = "http1"


class Ask(msgspec.Struct, frozen=True):
    """A slice; with seconds = 0, one request per connection, whose last reply is returned."""

    target: Target
    seconds: float = 0.0
    concurrency: int = 1


class Connection:
    """A socket and its protocol. Edge-triggered: reads and writes until the kernel would block."""

    def __init__(self, opened: socket.socket, protocol: Http1 | Http2) -> None:
        self.socket, self.protocol = opened, protocol
        self.began = 0.0

    def begin(self) -> None:
        self.began = time.perf_counter()
        self.protocol.begin()
        self.flush()

    def flush(self) -> None:
        protocol = self.protocol
        try:
            while protocol.ready:
                protocol.ready = protocol.ready[self.socket.send(protocol.ready) :]
        except BlockingIOError:
            return

    def receive(self) -> bool:
        """Whether the reply is complete."""
        while True:
            try:
                count = self.socket.recv_into(self.protocol.room())
            except BlockingIOError:
                return False
            if not count:
                raise RuntimeError("the server closed the connection within a reply")
            if self.protocol.took(count):
                return True
            if self.protocol.ready:  # a protocol that sends replies in between
                self.flush()


def connect(target: Target, number: int) -> Connection:
    family = socket.AF_UNIX if target.address.startswith("/") else socket.AF_INET
    opened = socket.socket(family)
    if family == socket.AF_INET:
        host, _, port = target.address.rpartition(":")
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        opened.connect((host, int(port)))
    else:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        opened.connect(target.address)
    opened.setblocking(False)
    payload = Path(target.requests[number % len(target.requests)]).read_bytes()
    return Connection(opened, PROTOCOLS[target.protocol](payload))


@contextmanager
def connections(target: Target, count: int) -> Iterator[dict[int, Connection]]:
    """Open connections, by file descriptor."""
    with ExitStack() as stack:
        opened = {}
        for number in range(count):
            connection = connect(target, number)
            stack.enter_context(connection.socket)
            opened[connection.socket.fileno()] = connection
        yield opened


class Load:
    """One slice."""

    def __init__(self, opened: dict[int, Connection]) -> None:
        self._opened = opened
        self._finished: list[tuple[float, float]] = []

    def play(self, seconds: float) -> Slice:
        """Warm up, run the slice, and wait for requests in flight, so that the next measurement is not affected."""
        cpu = time.process_time()
        with select.epoll() as poll:
            for number in self._opened:
                poll.register(number, EVENTS)
            start = time.perf_counter() + (WARM_S if seconds else 0)
            for connection in self._opened.values():
                connection.begin()
            self._until(poll, start + seconds)
        if not seconds:
            start = 0.0
        inside = [(end - began) * 1e3 for began, end in self._finished if start <= end <= start + (seconds or end)]
        return Slice(seconds, tuple(inside), len(self._finished), time.process_time() - cpu)

    def _until(self, poll: select.epoll, end: float) -> None:
        flying = len(self._opened)
        while flying:
            events = poll.poll(PATIENCE_S)
            if not events:
                raise RuntimeError(f"no answer within {PATIENCE_S:.0f} s")
            for number, event in events:
                connection = self._opened[number]
                if event & select.EPOLLOUT:
                    connection.flush()
                if event & ~select.EPOLLOUT and connection.receive():
                    now = time.perf_counter()
                    self._finished.append((connection.began, now))
                    if now < end:
                        connection.begin()
                    else:
                        flying -= 1


def run_slice(ask: Ask) -> Slice:
    with connections(ask.target, ask.concurrency) as opened:
        result = Load(opened).play(ask.seconds)
        reply = b"" if ask.seconds else next(iter(opened.values())).protocol.reply()
        return msgspec.structs.replace(result, reply=reply)


def is_answered(target: Target) -> bool:
    """Whether one request is answered with 200 right now."""
    try:
        run_slice(Ask(target))
    except (OSError, RuntimeError):
        return False
    return True


def main() -> None:
    for line in sys.stdin:
        try:
            result = run_slice(msgspec.json.decode(line, type=Ask))
        except (OSError, RuntimeError) as error:
            sys.exit(f"bench: load: {error}")
        print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
