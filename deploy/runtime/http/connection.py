"""One HTTP/1.1 connection: bytes -> HttpRequest, HttpReply -> bytes. Knows nothing of models.

`httptools` (llhttp) parses the head of each request; a body with a Content-Length is then received straight into the
aligned buffer that the tensor is read from (measured: seven points of throughput). Each request gets a new parser, so
that bytes of the next one (pipelining) never reach it. A connection's requests are answered one at a time, in order.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from math import inf
from typing import Literal, cast

from deploy.runtime.http.app import App
from deploy.runtime.http.body import BodyMemory, ChunkReader
from deploy.runtime.http.limits import SLOWEST_BYTES_PER_S, Limits
from deploy.runtime.http.messages import (
    HTTPError,
    HttpReply,
    HttpRequest,
    RequestHead,
    error_reply,
    is_loopback,
    parse_head,
    parse_head_cached,
    reply_bytes,
)
from deploy.runtime.protocol.tensors import aligned_buffer

BUFFER_BYTES = 32 << 10
NO_HEAD, NO_BODY = RequestHead(), memoryview(b"")
LINGER_S = 1.0  # after an error: time for the client to stop sending and read it
MAX_STEPS = 8  # heads and runs of chunks handled before other connections get their turn: hundreds fit into a buffer


class Connection(asyncio.BufferedProtocol):
    """States: head (reading a head, or idle), body, chunks, busy (the app works), closing (an error was sent)."""

    def __init__(self, app: App, limits: Limits, clock: Callable[[], float]) -> None:
        self._app, self._limits, self._clock = app, limits, clock
        self.state: Literal["head", "body", "chunks", "busy", "closing"] = "head"
        self.deadline = clock() + limits.sender_s
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = self._received = 0
        self._head, self._body = NO_HEAD, NO_BODY
        self._memory = BodyMemory(app.budget, limits)
        self.client: str | None = None
        self._is_new = True  # no whole head yet
        self._is_advancing = self._is_write_paused = self._is_half_closed = self._is_rescheduled = False
        self._socket: asyncio.Transport | None = None

    # called by asyncio, and by tls_handshake.py before it

    def register(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection from now on; HTTPError where there is no room. TLS calls this with two transports."""
        self._transport = cast("asyncio.Transport", transport)
        if self._socket is None:
            self._socket = self._transport
            self.client = self._memory.client = self._limits.client_of(transport.get_extra_info("peername"))
        self._app.connections.add(self)
        self._app.connections.make_room(self, self._limits)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            self.register(transport)
        except HTTPError as refusal:
            self._send_error(refusal)
        self._has_certificate = bool(transport.get_extra_info("peercert"))
        self._descriptor = -1 if transport.get_extra_info("sslcontext") else transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.unregister()
        if self.state != "busy" or self._head is NO_HEAD:  # else the app still reads the body
            self._memory.release()

    def unregister(self) -> None:
        self._app.connections.discard(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        if self.state == "body":
            return self._body[self._received :]
        return self._view if self.state == "closing" else self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        if self.state == "body":
            try:
                self._add_to_body(nbytes)
            except HTTPError as refusal:
                self._send_error(refusal)
        elif self.state != "closing":
            self._end += nbytes
            self._advance()

    def eof_received(self) -> bool:
        """A client may close its half and still read the reply; not under TLS, where asyncio closes the connection."""
        self._is_half_closed = True
        has_work = self.state == "busy" or self._is_write_paused or self._is_rescheduled
        return self._transport.can_write_eof() and has_work

    def pause_writing(self) -> None:
        self._is_write_paused, self.deadline = True, self._clock() + self._limits.sender_s

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._memory.release()
        if self.state == "head":
            self._wait_for_head()
        self._advance()

    # called by the server and by other connections

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    @property
    def idle_rank(self) -> int | None:
        if self._is_write_paused or self.state not in ("head", "closing"):
            return None
        return 0 if self._is_new or self._start < self._end or self.state == "closing" else 1

    def drop(self) -> None:
        self._app.count_rejection("dropped")
        self._transport.abort()

    def is_gone(self) -> bool:
        """The client sends no more: it has disconnected, or waits for the reply with its half closed."""
        return self._is_half_closed or self._transport.is_closing()

    @cached_property
    def is_local(self) -> bool:
        peer = self._transport.get_extra_info("peername")  # empty, or a path: a Unix socket
        return not isinstance(peer, tuple) or is_loopback(peer[0])

    def sweep(self, now: float) -> None:
        """Close the connection if it has taken too long; called about once a second."""
        if now < self.deadline:
            return
        if self._is_write_paused or self._transport.is_closing():
            self._transport.abort()
        elif self.state == "closing" or (self.state == "head" and self._start == self._end):
            self._close()
        elif self.state == "head":
            self._send_error(HTTPError(408, "slow_sender", f"no request head within {self._limits.sender_s:g} s"))
        elif words := self._memory.slow_text(self._received if self.state == "body" else len(self._head.chunks)):
            self._send_error(HTTPError(408, "slow_sender", words))
        else:
            self.deadline = now + self._limits.sender_s

    def close_if_idle(self) -> None:
        if self.state == "head" and self._start == self._end and not self._is_write_paused:
            self._close()

    def _close(self) -> None:
        """Close once everything is sent, without waiting for a TLS client to confirm (RFC 8446, 6.1): it may never."""
        if self._transport.is_closing():  # a second close() would hide a TLS connection from abort()
            return
        self._transport.close()
        if self._socket is not None:
            self._socket.close()

    # from bytes to requests

    def _advance(self) -> None:
        """Handle the complete requests in the buffer, a few at a time, then make room for more."""
        self._is_rescheduled = False
        if self._is_advancing or self._transport.is_closing():
            return
        self._is_advancing = True
        try:
            for _ in range(MAX_STEPS):
                if self._start >= self._end or self._is_write_paused or not self._parse_next():
                    break
            else:
                self._is_rescheduled = True
                asyncio.get_running_loop().call_soon(self._advance)
        except HTTPError as refusal:
            self._send_error(refusal)
        finally:
            self._is_advancing = False
        self._compact_buffer()
        if self._is_half_closed and self.state != "busy" and not self._is_write_paused and not self._is_rescheduled:
            self._close()

    def _parse_next(self) -> bool:
        """Whether more may be done without new bytes."""
        return self._read_head() if self.state == "head" else self.state == "chunks" and self._read_chunks()

    def _compact_buffer(self) -> None:
        left = self._end - self._start
        if self._start:
            self._view[:left] = self._view[self._start : self._end]
            self._start, self._end = 0, left
        if left == BUFFER_BYTES:
            self._transport.pause_reading()
        elif not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    def _read_head(self) -> bool:
        while self._start < self._end and self._buffer[self._start] in b"\r\n":
            self._start += 1
        at = self._buffer.find(b"\r\n\r\n", self._start, self._end)
        if (self._end if at < 0 else at) - self._start > self._limits.head_bytes:
            raise HTTPError(431, "head_too_large", f"the head is larger than {self._limits.head_bytes} bytes")
        if at < 0:
            if self.deadline > (limit := self._clock() + self._limits.sender_s):
                self.deadline = limit
            return False
        block = self._view[self._start : at + 4]
        self._start = at + 4
        self._is_new = False
        self._head, self._parser = parse_head(block) if self._app.check is not None else parse_head_cached(block)
        if self._app.check is not None:
            self._app.check(self._has_certificate, self._parser.get_method(), self._head.url, self._head.headers)
        self._begin_body(self._head.headers)
        return True

    def _begin_body(self, headers: dict[bytes, bytes]) -> None:
        coding, size = headers.get(b"transfer-encoding"), int(headers.get(b"content-length", b"0"))
        if coding is not None and (coding.lower() != b"chunked" or b"upgrade" in headers):
            raise HTTPError(400, "malformed", "the only supported Transfer-Encoding is chunked")
        self._memory.begin(size)
        self.deadline = self._clock() + self._limits.sender_s
        if headers.get(b"expect", b"").lower() == b"100-continue" and self._end - self._start < max(size, 1):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if coding is not None:
            self.state = "chunks"
            self._chunks = ChunkReader(self._head, self._parser, self._memory, self._limits.head_bytes)
        elif size:
            self._begin_sized_body(size, headers.get(b"inference-header-content-length", b""))
        else:
            self._dispatch(NO_BODY)

    def _begin_sized_body(self, size: int, header_bytes: bytes) -> None:
        self._body = aligned_buffer(size, int(header_bytes) if header_bytes.isdigit() and len(header_bytes) < 10 else 0)
        here = min(size, self._end - self._start)
        self._body[:here] = self._view[self._start : self._start + here]
        self._start += here
        self.state, self._received = "body", 0
        if here < size and self._descriptor >= 0:
            # the rest has mostly arrived: reading it now is faster than waiting for the event loop
            with suppress(OSError):
                here += os.readv(self._descriptor, [self._body[here:]])
        self._add_to_body(here)

    def _add_to_body(self, size: int) -> None:
        self._received += size
        if self._memory.is_counted:
            self._memory.add(size)
        if self._received == len(self._body):
            self._dispatch(self._body)

    def _read_chunks(self) -> bool:
        self._start = self._chunks.read(self._buffer, self._start, self._end)
        if self._head.message_done:
            self._dispatch(memoryview(self._head.chunks))
        return self._head.message_done

    # from requests to replies

    def _dispatch(self, body: memoryview) -> None:
        self.state, self.deadline = "busy", inf
        self._method = self._parser.get_method().decode("latin-1")
        path = self._head.url.partition(b"?")[0].decode("latin-1")
        self._app.answer(HttpRequest(self._method, path, self._head.headers, body, self), self._send)

    def _send(self, reply: HttpReply) -> None:
        self._memory.release()
        if self.state != "busy" or self._transport.is_closing():
            return
        close, self._head, self._body = not self._head.is_keep_alive or self._app.draining, NO_HEAD, NO_BODY
        self._transport.write(reply_bytes(self._memory.hold_reply(reply), close, self._method != "HEAD"))
        if close:
            self.deadline = self._clock() + self._limits.sender_s + len(reply.body) / SLOWEST_BYTES_PER_S
            self._close()
            return
        if not self._is_write_paused:
            self._memory.release()
        self._wait_for_head()
        if self._end or self._is_half_closed:
            self._advance()

    def _wait_for_head(self) -> None:
        patience_s = self._limits.sender_s if self._is_write_paused else self._limits.idle_s
        self.state, self.deadline = "head", self._clock() + patience_s

    def _send_error(self, refusal: HTTPError) -> None:
        """Send the error, stop sending, and discard what the client still sends, so that it gets to read the error."""
        self._memory.release()
        self._app.count_refusal(refusal.status, refusal.reason)
        self._transport.write(reply_bytes(error_reply(refusal.status, str(refusal), refusal.headers), close=True))
        self.state, self.deadline = "closing", self._clock() + LINGER_S
        self._start = self._end = 0
        self._head, self._body = NO_HEAD, NO_BODY
        if self._transport.can_write_eof():
            self._transport.write_eof()
