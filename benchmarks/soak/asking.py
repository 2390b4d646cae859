"""Sends a case to a server and tells how it was answered. Knows no case's meaning."""

import re
import socket
import time
from contextlib import suppress
from typing import Any, NamedTuple

import grpc

from benchmarks.serving.clients.http2 import GOAWAY, HEAD, HEADERS, PING, frame
from benchmarks.soak.cases import Case

PATIENCE_S, ENOUGH_S = 10.0, 0.05
BACKOFF = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
AGAIN_S = 2.0  # a call whose path is no UTF-8 has the gRPC server begin again, within half a second
BETWEEN = ("UNAVAILABLE", "CANCELLED")  # what a call gets that came when one server had ended, before the next
MARK = b"soaksoak"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
SERVICE = "/inference.GRPCInferenceService"


class Told(NamedTuple):
    """status: HTTP's or gRPC's, `closed` where a connection ended without a word, `none` where nothing came in time."""

    status: str
    text: bytes = b""


class Asking:
    """One client; `close()` in the end."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._port, self._grpc_port = port, grpc_port
        self._kept: socket.socket | None = None
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}", BACKOFF)

    def close(self) -> None:
        self._drop()
        self._channel.close()

    def ask(self, case: Case) -> list[Told]:
        """Several answers where the case holds several requests."""
        try:
            match case.way:
                case "kept":
                    return [self._on_kept(case.content)]
                case "grpc":
                    limit = time.monotonic() + AGAIN_S
                    while (told := self._by_grpc(case)).status in BETWEEN and time.monotonic() < limit:
                        time.sleep(0.02)
                    return [told]
                case "http2":
                    return self._http2(case.content)
                case _:
                    return self._alone(case.content)
        except TimeoutError:
            self._drop()
            return [Told("none")]

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _on_kept(self, content: bytes) -> Told:
        if self._kept is None:
            self._kept = socket.create_connection(("127.0.0.1", self._port), PATIENCE_S)
        found = b""
        with suppress(ConnectionError):
            self._kept.sendall(content)
        with suppress(ConnectionError):
            while (whole := _whole(found)) is None and (block := self._kept.recv(1 << 16)):
                found += block
        if (whole := _whole(found)) is None:
            self._drop()
            return Told("closed", found)
        if b"connection: close" in found.lower():
            self._drop()
        return whole

    def _alone(self, content: bytes) -> list[Told]:
        """Send all, close our half, and read until the server closes the other."""
        with socket.create_connection(("127.0.0.1", self._port), PATIENCE_S) as connection:
            _send(connection, content)
            found = _read(connection)
        return [Told(code.decode(), found[-600:]) for code, _ in STATUS.findall(found)] or [Told("closed", found)]

    def _http2(self, content: bytes) -> list[Told]:
        """A ping behind the case is answered once all before it was read; where it is not, we have waited enough."""
        with _connected(self._grpc_port) as connection:
            with suppress(ConnectionError):
                connection.sendall(content + frame(PING, 0, 0, MARK))
            connection.settimeout(ENOUGH_S)
            found = b""
            with suppress(TimeoutError, ConnectionError):
                while MARK not in found and (block := connection.recv(1 << 16)):
                    found += block
            connection.settimeout(PATIENCE_S)
            _send(connection, b"")
            found += _read(connection)
        kinds = _kinds(found)
        return [Told("answered" if HEADERS in kinds else "goaway" if GOAWAY in kinds else "closed", found[:600])]

    def _by_grpc(self, case: Case) -> Told:
        patience: Any = {"timeout": PATIENCE_S, "wait_for_ready": True}
        path = f"{SERVICE}/{case.method}"
        try:
            if case.method == "ModelStreamInfer":
                return Told(
                    "OK", b"".join(self._channel.stream_stream(path)(iter([case.content] * 2), **patience))[:600]
                )
            return Told("OK", self._channel.unary_unary(path)(case.content, **patience)[:600])
        except grpc.RpcError as error:
            told: Any = error
            if told.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in str(told.details()):
                return Told("none")
            return Told(told.code().name, str(told.details()).encode()[:600])


def _connected(port: int) -> socket.socket:
    limit = time.monotonic() + AGAIN_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        except ConnectionRefusedError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.02)


def _send(connection: socket.socket, content: bytes) -> None:
    """All, and that it is all; a server that has closed already is not told."""
    with suppress(OSError):
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket) -> bytes:
    """Until the server closes its half, too."""
    found = b""
    with suppress(ConnectionError):
        while block := connection.recv(1 << 16):
            found += block
    return found


def _kinds(found: bytes) -> set[int]:
    """Of the whole frames."""
    kinds, at = set(), 0
    while at + HEAD <= len(found):
        kinds.add(found[at + 3])
        at += HEAD + int.from_bytes(found[at : at + 3], "big")
    return kinds


def _whole(found: bytes) -> Told | None:
    """The answer to what is not a HEAD, once all of it is here; one that announces another is passed over."""
    while match := STATUS.match(found):
        if match[1] != b"100":
            break
        found = found[match.end() :]
    else:
        return None
    size = SIZE.search(match[2])
    if len(found) < match.end() + int(size[1] if size else 0):
        return None
    return Told(match[1].decode(), found[match.end() :][:600])
