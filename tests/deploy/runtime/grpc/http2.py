"""A client that speaks HTTP/2 frame by frame, as a test wants it; it keeps to no rule by itself."""

import socket
import struct
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote

from hpack import Decoder

from benchmarks.serving.clients.infer_message import infer_request as infer_message
from deploy.runtime.grpc import frames
from deploy.runtime.grpc.frames import encode_field, frame
from tests.deploy.runtime.server import PATIENCE_S, Running

SERVICE_PATH = "/inference.GRPCInferenceService"
CALL = {b":method": b"POST", b":scheme": b"http", b":authority": b"x", b"te": b"trailers"}
CALL |= {b"content-type": b"application/grpc"}


def infer_request() -> bytes:
    """A ModelInferRequest for the null bundle."""
    return infer_message("null", "image", (1, 8, 8, 3), "logits", bytes(192))


def grpc_port(server: Running) -> int:
    port = server.wait_for("listening for gRPC")["grpc_port"]
    assert isinstance(port, int)
    return port


class Reply(NamedTuple):
    """status, message: grpc-status and grpc-message, empty until they came; content: of all DATA frames."""

    status: str
    message: str
    content: bytes
    was_reset: bool


class Http2Client:
    """One connection. source: the address that it comes from."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0))
        self._decoder = Decoder(1 << 20)
        self._frames: list[tuple[int, int, int, bytes]] = []
        self._received, self._stream = b"", -1
        self._fields: dict[int, dict[bytes, bytes]] = {}
        settings = struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)
        self.send(frames.PREFACE + frame(frames.SETTINGS, 0, 0, settings) + frames.window_frame(0, 1 << 30))

    def __enter__(self) -> "Http2Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        with suppress(ConnectionError):  # the server may have had enough: what it said can still be read
            self._socket.sendall(content)

    def send_head(self, path: bytes, fields: dict[bytes, bytes] | None = None) -> int:
        self._stream += 2
        block = b"".join(encode_field(*field) for field in (CALL | {b":path": path} | (fields or {})).items())
        self.send(frame(frames.HEADERS, frames.END_HEADERS, self._stream, block))
        return self._stream

    def send_data(self, stream: int, content: bytes, is_last: bool = False) -> None:
        parts = [content[at : at + frames.MAX_FRAME] for at in range(0, len(content), frames.MAX_FRAME)] or [b""]
        for part in parts[:-1]:
            self.send(frame(frames.DATA, 0, stream, part))
        self.send(frame(frames.DATA, frames.END_STREAM if is_last else 0, stream, parts[-1]))

    def send_call(
        self, path: bytes, message: bytes, fields: dict[bytes, bytes] | None = None, compressed: bool = False
    ) -> int:
        stream = self.send_head(path, fields)
        self.send_data(stream, bytes([compressed]) + len(message).to_bytes(4, "big") + message, is_last=True)
        return stream

    def call(
        self, path: bytes, message: bytes, fields: dict[bytes, bytes] | None = None, compressed: bool = False
    ) -> Reply:
        return self.reply(self.send_call(path, message, fields, compressed))

    def reply(self, stream: int, wait_s: float = PATIENCE_S) -> Reply:
        """Once it is whole, or what is here after `wait_s`."""
        limit = time.monotonic() + wait_s
        while not self._is_whole(stream) and self._read(limit - time.monotonic()):
            pass
        fields = self._fields.get(stream, {})
        content = b"".join(part for kind, _, number, part in self._frames if (kind, number) == (frames.DATA, stream))
        was_reset = any((kind, number) == (frames.RST_STREAM, stream) for kind, _, number, _ in self._frames)
        message = unquote(fields.get(b"grpc-message", b"").decode())
        return Reply(fields.get(b"grpc-status", b"").decode(), message, content, was_reset)

    def goaway(self) -> int:
        """The code with which the server ends the connection."""
        limit = time.monotonic() + PATIENCE_S
        while self._read(limit - time.monotonic()):
            for kind, _, _, content in self._frames:
                if kind == frames.GOAWAY:
                    return int.from_bytes(content[4:8], "big")
        raise AssertionError(f"no GOAWAY in {[kind for kind, *_ in self._frames]}")

    def _is_whole(self, stream: int) -> bool:
        return any(
            kind == frames.RST_STREAM or (kind == frames.HEADERS and flags & frames.END_STREAM)
            for kind, flags, number, _ in self._frames
            if number == stream
        )

    def _read(self, wait_s: float) -> bool:
        """Whether more has come."""
        self._socket.settimeout(max(0.01, wait_s))
        try:
            block = self._socket.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            return False
        self._received += block
        while len(self._received) >= frames.HEAD_BYTES:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < frames.HEAD_BYTES + size:
                break
            kind, flags = self._received[3:5]
            stream = int.from_bytes(self._received[5:9], "big")
            content = self._received[9 : 9 + size]
            self._received = self._received[9 + size :]
            if kind == frames.HEADERS:
                self._fields.setdefault(stream, {}).update(self._decoder.decode(content, raw=True))
            self._frames.append((kind, flags, stream, content))
        return bool(block)
