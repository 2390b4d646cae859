"""One HTTP/2 connection that carries gRPC: bytes -> frames -> calls, with limits on all that a client can make costly.

Only a server's part of RFC 9113: no push, no priorities, no compression of what is sent. A call that is refused is
answered before its message is taken, and what arrives for it is thrown away. Knows no methods.
"""

import asyncio
from collections.abc import Callable
from functools import cached_property
from math import inf
from typing import Protocol, cast

from hpack import Decoder, HPACKError

from deploy.runtime.grpc import frames
from deploy.runtime.grpc.call import RECEIVE_WINDOW, GrpcCall, kept_fields
from deploy.runtime.grpc.frame_reader import FrameReader
from deploy.runtime.grpc.frames import Http2Error, frame
from deploy.runtime.grpc.turns import TurnQueue
from deploy.runtime.http.limits import ConnectionTable, Limits
from deploy.runtime.http.messages import HTTPError, is_loopback

CONNECTION_WINDOW = 4 << 20  # bytes of all its calls that may be on their way
MAX_CALLS = 100  # at a time
MAX_HEAD_BYTES = 8 << 10  # of a call: what gRPC's own libraries take by default
MAX_CANCELLED = 200  # calls in a row that the client did not wait for: HTTP/2's rapid reset
MAX_SCRAP = 4096  # bytes to read at once of what is thrown away


class CallApp(Protocol):
    """begin() is called with a call's head, before its messages: it begins the call, or ends it."""

    connections: ConnectionTable
    turns: TurnQueue

    @property
    def draining(self) -> bool: ...
    def begin(self, call: GrpcCall) -> None: ...
    def count_rejection(self, reason: str) -> None: ...


class GrpcConnection(asyncio.BufferedProtocol):
    """A Peer and a CallConnection. calls: by their streams' numbers."""

    def __init__(self, app: CallApp, limits: Limits, clock: Callable[[], float]) -> None:
        self._app, self._limits, self._clock = app, limits, clock
        self.calls: dict[int, GrpcCall] = {}
        self.client: str | None = None
        self.send_window = self.initial_window = frames.WINDOW
        self.max_frame = frames.MAX_FRAME
        self._head_bytes = min(limits.head_bytes, MAX_HEAD_BYTES)
        self._reader, self._decoder = FrameReader(self, self._head_bytes), Decoder(self._head_bytes)
        self._last_stream = self._unacknowledged = self._cancelled = 0
        self._is_leaving = self._is_failed = self.is_write_paused = False
        self._heard = self._write_paused_at = clock()
        self._pinged = inf  # when the answer to our ping is due
        self._socket: asyncio.Transport | None = None

    # called by asyncio, and by tls_handshake.py before it

    def register(self, transport: asyncio.BaseTransport) -> None:
        """See Connection.register."""
        self._transport = cast("asyncio.Transport", transport)
        if self._socket is None:
            self._socket = self._transport
            self.client = self._limits.client_of(transport.get_extra_info("peername"))
        self._app.connections.add(self)
        self._app.connections.make_room(self, self._limits)

    def unregister(self) -> None:
        self._app.connections.discard(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            self.register(transport)
        except HTTPError as refusal:
            self._app.count_rejection(refusal.reason)
            self._fail(Http2Error(frames.ENHANCE_YOUR_CALM, str(refusal)))
            return
        self.write(frames.opening(MAX_CALLS, RECEIVE_WINDOW, CONNECTION_WINDOW, self._head_bytes))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.unregister()
        for call in tuple(self.calls.values()):
            call.cancel()
        self.calls.clear()
        self._reader.release()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._scrap if self._is_failed else self._reader.room

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_failed:
            return
        self._heard, self._pinged = self._clock(), inf
        self._read(nbytes)

    def _read(self, count: int = 0) -> None:
        """Handle `count` new bytes, a few frames at a time."""
        if self._is_failed or self._transport.is_closing():
            return
        try:
            is_done = self._reader.received(count)
        except Http2Error as error:
            self._fail(error)
            return
        if not is_done:
            self._transport.pause_reading()
            self._app.turns.add(self._read)
        elif not self.is_write_paused:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        self._is_leaving = True
        return bool(self.calls) and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self.is_write_paused, self._write_paused_at = True, self._clock()
        self._transport.pause_reading()  # else replies to its pings would pile up

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self._flush_calls()
        self._read()

    # called by the server, by calls and by other connections

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    @cached_property
    def is_local(self) -> bool:
        peer = self._transport.get_extra_info("peername")
        return not isinstance(peer, tuple) or is_loopback(peer[0])

    @property
    def deadline(self) -> float:
        return self._heard + (self._limits.idle_s if self._last_stream else self._limits.sender_s)

    @property
    def idle_rank(self) -> int | None:
        if self._is_failed:
            return 0
        return None if self.calls or self.is_write_paused else int(self._last_stream > 0)

    def write(self, content: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(content)

    def finish(self, call: GrpcCall) -> None:
        if call.is_answered:
            self._cancelled = 0
        self.calls.pop(call.number, None)
        if self._is_leaving or self._app.draining:
            self.close_if_idle()

    def drop(self) -> None:
        self._app.count_rejection("dropped")
        self._transport.abort()

    def close_if_idle(self) -> None:
        """Tell the client to make its next calls elsewhere, and close once there are none here."""
        if not self._is_leaving:
            self._is_leaving = True
            self.write(frames.goaway_frame(self._last_stream, frames.NO_ERROR))
        if not self.calls:
            self._transport.close()

    def sweep(self, now: float) -> None:
        """Close the connection, or end calls, if they have taken too long; called about once a second."""
        sender_s, idle_s = self._limits.sender_s, self._limits.idle_s
        is_stuck = self.is_write_paused and now > self._write_paused_at + sender_s
        if is_stuck or self._is_failed or self._transport.is_closing() or now > self._pinged:
            self._transport.abort()
        elif not self.calls:
            if now > self.deadline:
                self.close_if_idle()
        else:
            if now > self._heard + idle_s and self._pinged == inf:
                self._pinged = now + sender_s
                self.write(frame(frames.PING, 0, 0, bytes(8)))
            for call in tuple(self.calls.values()):
                call.sweep(now, sender_s)

    def _fail(self, error: Http2Error) -> None:
        """Say why, and end the connection; the next sweep does so where the client reads nothing."""
        self._is_failed = True
        for call in tuple(self.calls.values()):
            call.cancel()
        self.calls.clear()
        self._scrap = memoryview(bytearray(MAX_SCRAP))
        self.write(frames.goaway_frame(self._last_stream, error.code, str(error)))
        self._transport.close()

    # called by the frame reader

    def begin_data(self, stream: int, size: int) -> bool:
        if not stream or stream > self._last_stream:
            raise Http2Error(frames.PROTOCOL_ERROR, "data for a call that has not begun")
        self._unacknowledged += size
        if self._unacknowledged > CONNECTION_WINDOW:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "more data than the window allows")
        if self._unacknowledged > CONNECTION_WINDOW // 2:
            self.write(frames.window_frame(0, self._unacknowledged))
            self._unacknowledged = 0
        return stream in self.calls

    def on_data(self, stream: int, part: memoryview) -> None:
        call = self.calls.get(stream)
        if call is not None:
            call.receive(part)
            if call.unacknowledged > RECEIVE_WINDOW:
                raise Http2Error(frames.FLOW_CONTROL_ERROR, "more data than the call's window allows")

    def end_data(self, stream: int) -> None:
        if (call := self.calls.get(stream)) is not None:
            call.half_close()

    def on_frame(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        match kind:
            case frames.WINDOW_UPDATE:
                self._on_window(stream, content)
            case frames.SETTINGS:
                self._on_settings(stream, flags, content)
            case frames.PING:
                self.write(frames.pong(stream, flags, content))
            case frames.RST_STREAM:
                self._on_reset(stream, content)
            case frames.PUSH_PROMISE:
                raise Http2Error(frames.PROTOCOL_ERROR, "a promise from a client")
            case _:
                pass  # PRIORITY, GOAWAY, and what extensions may add: to be ignored

    def on_head(self, stream: int, block: bytes, is_last: bool) -> None:
        try:
            fields = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise Http2Error(frames.COMPRESSION_ERROR, str(error)) from error
        if stream > self._last_stream and stream % 2:
            self._last_stream = stream
            self._begin_call(stream, kept_fields(fields), is_last)
        elif not stream % 2:
            raise Http2Error(frames.PROTOCOL_ERROR, "a call on a stream that is not the client's")
        elif (call := self.calls.get(stream)) is not None:
            if not is_last:
                raise Http2Error(frames.PROTOCOL_ERROR, "a second head within a call")
            call.half_close()

    def _begin_call(self, stream: int, fields: dict[bytes, bytes], is_last: bool) -> None:
        if self._is_leaving or len(self.calls) >= MAX_CALLS:
            self.write(frames.reset_frame(stream, frames.REFUSED_STREAM))  # a client may make such a call again
            return
        call = self.calls[stream] = GrpcCall(self, stream, fields, self._heard)
        call.is_half_closed = is_last
        self._app.begin(call)
        if is_last:
            call.half_close()

    def _on_window(self, stream: int, content: bytes) -> None:
        size = frames.parse_window(content)
        call = self.calls.get(stream)
        if stream > self._last_stream:
            raise Http2Error(frames.PROTOCOL_ERROR, "a window of nothing")
        if stream == 0:
            self.send_window += size
            self._flush_calls()
        elif call is not None:
            call.window += size
            call.flush()
        if max(self.send_window, 0 if call is None else call.window) > frames.MAX_WINDOW:
            raise Http2Error(frames.FLOW_CONTROL_ERROR, "a window that is too large")

    def _on_settings(self, stream: int, flags: int, content: bytes) -> None:
        if flags & frames.ACK:
            return
        for name, value in frames.parse_settings(stream, content):
            if name == frames.INITIAL_WINDOW_SIZE:
                for call in self.calls.values():
                    call.window += value - self.initial_window
                self.initial_window = value
            elif name == frames.MAX_FRAME_SIZE:
                self.max_frame = value
        self.write(frame(frames.SETTINGS, frames.ACK, 0))
        self._flush_calls()

    def _flush_calls(self) -> None:
        for call in tuple(self.calls.values()):
            if call.unsent_bytes:
                call.flush()

    def _on_reset(self, stream: int, content: bytes) -> None:
        if not stream or stream > self._last_stream or len(content) != 4:
            raise Http2Error(frames.PROTOCOL_ERROR, "a reset of a wrong form")
        if (call := self.calls.get(stream)) is not None:
            call.cancel()
            self.finish(call)
            self._cancelled += 1
            if self._cancelled > MAX_CANCELLED:
                raise Http2Error(frames.ENHANCE_YOUR_CALM, f"more than {MAX_CANCELLED} calls cancelled in a row")
