"""A server with TLS for tests, and connections to it that trust just one authority."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.runtime.security.authority import Issued
from tests.deploy.runtime.server import PATIENCE_S, Running, answer, request, serving


@contextmanager
def closed(bundle: Path, issued: Issued, *flags: object, **environment: str) -> Iterator[Running]:
    files = ("--tls-cert", issued.cert, "--tls-key", issued.key)
    with serving(bundle, *files, *flags, LOG_LEVEL="debug", **environment) as server:
        yield server
        assert server.process.poll() is None, "the server died"
        assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]


@contextmanager
def dialled(server: Running, context: ssl.SSLContext, port: int = 0) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port or server.port), PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def asked(
    server: Running, context: ssl.SSLContext, path: str, body: bytes = b"", port: int = 0, **headers: str
) -> tuple[int, str]:
    with dialled(server, context, port) as connection:
        connection.sendall(request("POST" if body else "GET", path, body, **headers))
        status, _, said = answer(connection)
        return status, said.decode()


def connections(server: Running, context: ssl.SSLContext) -> float:
    """As the server counts them, this one too, once the others have had time to end."""
    for _ in range(600):
        text = asked(server, context, "/metrics")[1]
        found = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("edge_connections "))
        if found <= 1:
            break
        time.sleep(0.1)
    return found
