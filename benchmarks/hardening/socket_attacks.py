"""Connections, bodies and messages that cost a client little: announced and not sent, sent and not ended, wrong."""

import socket
import time
from functools import partial

from benchmarks.hardening.address import Address, Attack, Protocol, repeat
from benchmarks.serving.clients.http2 import DATA, END_HEADERS, FIELDS, HEADERS, OPENING, frame, literal

INFER = "/v2/models/null/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {64 << 20}\r\n\r\n".encode()
LARGE, BLOCK = 60 << 20, bytes(16384)
RST_STREAM, CANCEL = 3, b"\0\0\0\x08"
CALL = b"".join(literal(name, value) for name, value in FIELDS.items())


def _hold(connection: socket.socket) -> None:
    """Until the server has had enough."""
    while connection.recv(4096):
        pass


def one_letter(address: Address, port: Protocol, letter: bytes) -> None:
    def work() -> None:
        with address.connect(port) as connection:
            connection.sendall(letter)
            _hold(connection)

    repeat(540, work)


def announced_bodies(address: Address, sent_bytes: int) -> None:
    """As much of 64 MB, and then a letter a second."""

    def work() -> None:
        with address.connect("http") as connection:
            connection.sendall(HEAD + bytes(sent_bytes))
            while True:
                time.sleep(1)
                connection.sendall(b"x")

    repeat(8, work)


def large_messages(address: Address) -> None:
    """60 MB each from 24 clients, who do not look at what they are answered, nor at windows."""

    def work() -> None:
        with address.connect("grpc") as connection:
            prefix = b"\0" + LARGE.to_bytes(4, "big")
            connection.sendall(OPENING + frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, 0, 1, prefix))
            for _ in range(LARGE // len(BLOCK)):
                connection.sendall(frame(DATA, 0, 1, BLOCK))

    repeat(24, work)


def bad_paths(address: Address) -> None:
    fields = CALL.replace(literal(":path", FIELDS[":path"]), b"\0\x05:path\x04/\xff\xfex")

    def work() -> None:
        with address.connect("grpc") as connection:
            connection.sendall(OPENING + frame(HEADERS, END_HEADERS | 1, 1, fields))
            connection.settimeout(0.5)
            _hold(connection)

    repeat(4, work)


def cancelled_calls(address: Address) -> None:
    """HTTP/2's rapid reset: calls that are cancelled as soon as they begin."""

    def work() -> None:
        with address.connect("grpc") as connection:
            connection.sendall(OPENING)
            for stream in range(1, 1 << 20, 2):
                connection.sendall(frame(HEADERS, END_HEADERS, stream, CALL) + frame(RST_STREAM, 0, stream, CANCEL))

    repeat(8, work)


ATTACKS: dict[str, Attack] = {
    "540 sockets with one letter": partial(one_letter, port="http", letter=b"G"),
    "540 sockets with one letter, gRPC": partial(one_letter, port="grpc", letter=b"P"),
    "8 bodies of 64 MB, 4 bytes sent": partial(announced_bodies, sent_bytes=4),
    "8 bodies of 64 MB, half of them sent": partial(announced_bodies, sent_bytes=32 << 20),
    "24 gRPC clients, messages of 60 MB": large_messages,
    "gRPC paths that are not UTF-8": bad_paths,
    "gRPC calls that are cancelled at once": cancelled_calls,
}
