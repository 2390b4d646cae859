"""A minimal HTTP/1.1 client for one connection: the request's bytes are prepared, and of a reply only status and end
are parsed."""

import re

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
STATUS, OK = slice(9, 12), b"200"
LAST_CHUNK = b"\r\n0\r\n\r\n"
ROOM = 1 << 20


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    fields = {"Host": "bench", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Http1:
    """ready: bytes to send now. room: buffer for received bytes."""

    def __init__(self, payload: bytes) -> None:
        self._payload = memoryview(payload)
        self._buffer = bytearray(ROOM)
        self._view = memoryview(self._buffer)
        self._filled = self._end = self._body = 0
        self.ready = memoryview(b"")

    def begin(self) -> None:
        """Start the next request."""
        self._filled = self._end = 0
        self.ready = self._payload

    def room(self) -> memoryview:
        return self._view[self._filled :]

    def took(self, count: int) -> bool:
        """`count` bytes were received: whether the reply is complete. RuntimeError for a status other than 200."""
        self._filled += count
        if not self._end:
            self._measure()
        if self._end < 0:
            return self._buffer.endswith(LAST_CHUNK, self._body - 2, self._filled)
        return bool(self._end) and self._filled >= self._end

    def reply(self) -> bytes:
        """The body of the last reply, with chunks joined."""
        body = bytes(self._view[self._body : self._filled])
        return body if self._end > 0 else _unchunked(body)

    def _measure(self) -> None:
        """The length of the reply; -1 for a chunked one."""
        at = self._buffer.find(b"\r\n\r\n", 0, self._filled)
        if at < 0:
            return
        self._body = at + 4
        if self._buffer[STATUS] != OK:
            raise RuntimeError(f"the server answered {bytes(self._view[: self._filled])!r:.400}")
        length = LENGTH.search(self._buffer, 0, at)
        if length is None and CHUNKED.search(self._buffer, 0, at) is None:
            raise RuntimeError(f"a reply without a length: {bytes(self._view[:at])!r:.400}")
        self._end = -1 if length is None else self._body + int(length[1])


def _unchunked(body: bytes) -> bytes:
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return b"".join(chunks)
