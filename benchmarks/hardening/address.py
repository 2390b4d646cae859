"""Where an attacked server listens, and what an attack is: a function that goes on until its process is ended."""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NamedTuple

PATIENCE_S, PAUSE_S = 15.0, 0.05
Protocol = Literal["http", "grpc"]


class Address(NamedTuple):
    """source: this machine's address to come from; empty: whichever the kernel takes."""

    host: str
    http_port: int
    grpc_port: int
    source: str = ""

    @property
    def source_address(self) -> tuple[str, int] | None:
        return (self.source, 0) if self.source else None

    def connect(self, protocol: Protocol) -> socket.socket:
        port = self.http_port if protocol == "http" else self.grpc_port
        return socket.create_connection((self.host, port), PATIENCE_S, self.source_address)


Attack = Callable[[Address], None]


def outward_address() -> str:
    """This machine's address on the way out, from which a container is reached as from another client; empty: none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
        try:
            unsent.connect(("198.51.100.1", 9))  # kept for documentation (RFC 5737): nothing is sent
        except OSError:
            return ""
        return str(unsent.getsockname()[0])


def repeat(count: int, work: Callable[[], None]) -> None:
    """Call `work` on so many threads, again and again; a connection that is refused or cut ends one call."""

    def loop() -> None:
        while True:
            with suppress(OSError, http.client.HTTPException):
                work()
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=loop, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
