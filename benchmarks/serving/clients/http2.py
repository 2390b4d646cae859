"""A minimal gRPC client over HTTP/2 for one connection: one call after the other, with prepared messages.

Only what a client with one call in flight needs: flow control when sending, replies to settings and pings, collecting
replies. Reply headers may be compressed and are not parsed: a reply without a message means that the call failed.
"""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
INITIAL_WINDOW, MAX_FRAME = 4, 5  # settings
WINDOW, FRAME, LARGEST = 65535, 16384, (1 << 31) - 1
HEAD = 9
ROOM = 1 << 20
FIELDS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/inference.GRPCInferenceService/ModelInfer",
    ":authority": "bench",
    "te": "trailers",
    "content-type": "application/grpc",
}


def frame(kind: int, flags: int, stream: int, content: bytes | memoryview = b"") -> bytes:
    return b"".join([struct.pack(">I", len(content))[1:], struct.pack(">BBI", kind, flags, stream), content])


def literal(name: str, value: str) -> bytes:
    """An uncompressed header field without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


FIELDS_BLOCK = b"".join(literal(name, value) for name, value in FIELDS.items())
OPENING = b"".join(
    [
        PREFACE,
        frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, LARGEST)),
        frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST - WINDOW)),
    ]
)


class Http2:
    """See Http1."""

    def __init__(self, message: bytes) -> None:
        self._payload = memoryview(struct.pack(">BI", 0, len(message)) + message)
        self._buffer = bytearray(ROOM)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._stream, self._sent = -1, len(self._payload)
        self._window, self._stream_window = WINDOW, WINDOW
        self._initial, self._frame = WINDOW, FRAME
        self._reply: list[bytes] = []
        self.ready = memoryview(OPENING)

    def begin(self) -> None:
        """Start the next call."""
        self._stream += 2
        self._sent, self._stream_window, self._reply = 0, self._initial, []
        self._send(frame(HEADERS, END_HEADERS, self._stream, FIELDS_BLOCK), *self._data())

    def room(self) -> memoryview:
        return self._view[self._filled :]

    def took(self, count: int) -> bool:
        """`count` bytes were received: whether the call is complete. RuntimeError if it was refused."""
        self._filled += count
        at, done = 0, False
        while self._filled - at >= HEAD:
            size = int.from_bytes(self._view[at : at + 3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", self._buffer, at + 3)
            if self._filled - at < HEAD + size:
                break
            done |= self._answered(kind, flags, stream, self._view[at + HEAD : at + HEAD + size])
            at += HEAD + size
        left = self._filled - at
        if at and left:
            self._buffer[:left] = self._buffer[at : self._filled]
        self._filled = left
        return done

    def reply(self) -> bytes:
        """The message of the last reply, without gRPC's five-byte prefix."""
        return b"".join(self._reply)[5:]

    def _answered(self, kind: int, flags: int, stream: int, content: memoryview) -> bool:
        """Whether this frame completes the call."""
        if kind == DATA:
            self._reply.append(bytes(content))
        elif kind in (RST_STREAM, GOAWAY):
            raise RuntimeError(f"the server ended the call: {bytes(content)!r:.300}")
        elif kind == SETTINGS and not flags & ACK:
            self._settle(content)
        elif kind == PING and not flags & ACK:
            self._send(frame(PING, ACK, 0, content))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(content, "big"))
        if stream != self._stream or kind > HEADERS or not flags & END_STREAM:
            return False
        if not self._reply:
            raise RuntimeError("the reply has no message: the call failed")
        return True

    def _settle(self, content: memoryview) -> None:
        for setting, value in struct.iter_unpack(">HI", content):
            if setting == INITIAL_WINDOW:
                self._stream_window += value - self._initial
                self._initial = value
            elif setting == MAX_FRAME:
                self._frame = value
        self._send(frame(SETTINGS, ACK, 0), *self._data())

    def _widen(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
        elif stream == self._stream:
            self._stream_window += more
        self._send(*self._data())

    def _data(self) -> list[bytes]:
        """DATA frames for as much of the payload as flow control allows."""
        blocks = []
        while (left := len(self._payload) - self._sent) and (open_ := min(self._window, self._stream_window)) > 0:
            size = min(left, open_, self._frame)
            part = self._payload[self._sent : self._sent + size]
            blocks.append(frame(DATA, END_STREAM if size == left else 0, self._stream, part))
            self._sent += size
            self._window -= size
            self._stream_window -= size
        return blocks

    def _send(self, *frames: bytes) -> None:
        if frames:
            self.ready = memoryview(b"".join([self.ready, *frames]))
