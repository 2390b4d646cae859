"""Sends a case to a server and returns its replies. Does not know what a case means."""

import re
import socket
from contextlib import suppress
from typing import Any, NamedTuple

import grpc

from benchmarks.serving.clients.http2 import GOAWAY, HEAD, HEADERS, PING, frame
from benchmarks.soak.cases import Case

TIMEOUT_S, QUIET_S = 10.0, 0.05
BACKOFF = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
MARK = b"soaksoak"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
SERVICE = "/inference.GRPCInferenceService"


class Reply(NamedTuple):
    """status: HTTP's or gRPC's, `closed` for a connection that ended without a reply, `none` for a timeout."""

    status: str
    text: bytes = b""


class FuzzClient:
    """One client; call `close()` at the end."""

    def __init__(self, port: int, grpc_port: int) -> None:
        self._port, self._grpc_port = port, grpc_port
        self._kept: socket.socket | None = None
        self._channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port}", BACKOFF)

    def close(self) -> None:
        self._drop()
        self._channel.close()

    def send(self, case: Case) -> list[Reply]:
        """The replies to a case, several if it contains several requests."""
        try:
            match case.transport:
                case "kept":
                    return [self._send_on_kept(case.content)]
                case "grpc":
                    return [self._call_grpc(case)]
                case "http2":
                    return self._send_http2(case.content)
                case _:
                    return self._send_alone(case.content)
        except TimeoutError:
            self._drop()
            return [Reply("none")]

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _send_on_kept(self, content: bytes) -> Reply:
        if self._kept is None:
            self._kept = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S)
        received = b""
        with suppress(ConnectionError):
            self._kept.sendall(content)
        with suppress(ConnectionError):
            while (whole := _parse_reply(received)) is None and (block := self._kept.recv(1 << 16)):
                received += block
        if (whole := _parse_reply(received)) is None:
            self._drop()
            return Reply("closed", received)
        if b"connection: close" in received.lower():
            self._drop()
        return whole

    def _send_alone(self, content: bytes) -> list[Reply]:
        """Send everything, close the sending half, and read until the server closes the other."""
        with socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S) as connection:
            _send(connection, content)
            received = _read(connection)
        return [Reply(code.decode(), received[-600:]) for code, _ in STATUS.findall(received)] or [
            Reply("closed", received)
        ]

    def _send_http2(self, content: bytes) -> list[Reply]:
        """A ping after the case is answered once everything before it was read; without an answer, stop soon."""
        with socket.create_connection(("127.0.0.1", self._grpc_port), TIMEOUT_S) as connection:
            with suppress(ConnectionError):
                connection.sendall(content + frame(PING, 0, 0, MARK))
            connection.settimeout(QUIET_S)
            received = b""
            with suppress(TimeoutError, ConnectionError):
                while MARK not in received and (block := connection.recv(1 << 16)):
                    received += block
            connection.settimeout(TIMEOUT_S)
            _send(connection, b"")
            received += _read(connection)
        kinds = _frame_kinds(received)
        return [Reply("answered" if HEADERS in kinds else "goaway" if GOAWAY in kinds else "closed", received[:600])]

    def _call_grpc(self, case: Case) -> Reply:
        patience: Any = {"timeout": TIMEOUT_S, "wait_for_ready": True}
        path = f"{SERVICE}/{case.method}"
        try:
            if case.method == "ModelStreamInfer":
                return Reply(
                    "OK", b"".join(self._channel.stream_stream(path)(iter([case.content] * 2), **patience))[:600]
                )
            return Reply("OK", self._channel.unary_unary(path)(case.content, **patience)[:600])
        except grpc.RpcError as error:
            call: Any = error
            if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in str(call.details()):
                return Reply("none")
            return Reply(call.code().name, str(call.details()).encode()[:600])


def _send(connection: socket.socket, content: bytes) -> None:
    """Send everything and close the sending half, unless the server has already closed the connection."""
    with suppress(OSError):
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket) -> bytes:
    """Read until the server closes its half."""
    received = b""
    with suppress(ConnectionError):
        while block := connection.recv(1 << 16):
            received += block
    return received


def _frame_kinds(content: bytes) -> set[int]:
    """The types of the complete frames."""
    kinds, at = set(), 0
    while at + HEAD <= len(content):
        kinds.add(content[at + 3])
        at += HEAD + int.from_bytes(content[at : at + 3], "big")
    return kinds


def _parse_reply(content: bytes) -> Reply | None:
    """The reply to a request other than HEAD, once it is complete; a 100 Continue before it is skipped."""
    while match := STATUS.match(content):
        if match[1] != b"100":
            break
        content = content[match.end() :]
    else:
        return None
    size = SIZE.search(match[2])
    if len(content) < match.end() + int(size[1] if size else 0):
        return None
    return Reply(match[1].decode(), content[match.end() :][:600])
