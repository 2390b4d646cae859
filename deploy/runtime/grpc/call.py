"""One gRPC call on one HTTP/2 stream: its messages, its replies, and whether its client gets on. Knows no methods."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from deploy.runtime.grpc.frames import (
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    REPLY_FIELDS,
    Field,
    frame,
    reset_frame,
    status_fields,
    window_frame,
)
from deploy.runtime.grpc.reading import IDENTITY, Message, MessageReader
from deploy.runtime.grpc.status import GrpcStatus, SlowSender, status_of
from deploy.runtime.http.limits import SLOWEST_BYTES_PER_S
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.memory_budget import MemoryBudget, Reservation
from toolchain.errors import RequestError, ToolchainError

RECEIVE_WINDOW = 1 << 20  # bytes of a stream that may be on their way
WRITE_BYTES = 256 << 10  # handed to the socket at once: more waits here, where it is counted
TRACE_FIELDS, TRACE_BYTES = (b"traceparent", b"tracestate"), 512  # kept while a call lasts; as W3C's Trace Context asks
KEPT_FIELDS = frozenset(
    (b":path", b"content-type", b"grpc-encoding", b"grpc-timeout", b"authorization", b"traceparent", b"tracestate")
)
UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Receiver(Protocol):
    """The method that a call is of. on_sent: the client may have taken what was waiting to be sent; on_end: once, with
    the status that is sent, None: the client wants no reply."""

    is_streaming: bool

    def on_message(self, message: Message) -> None: ...
    def on_half_close(self) -> None: ...
    def on_sent(self) -> None: ...
    def on_end(self, status: GrpcStatus | None) -> None: ...


class CallConnection(Protocol):
    """client, is_local: of the client's address, see Limits.client_of and Caller; send_window, initial_window,
    max_frame: for what is sent to it; is_write_paused: it reads nothing now."""

    client: str | None
    send_window: int
    initial_window: int
    max_frame: int
    is_write_paused: bool

    def __hash__(self) -> int: ...
    @property
    def is_local(self) -> bool: ...
    def write(self, content: bytes) -> None: ...
    def finish(self, call: "GrpcCall") -> None: ...


class GrpcCall:
    """begin() comes first. fields: those of its head that matter, by name; now: seconds of the connection's clock."""

    def __init__(self, connection: CallConnection, number: int, fields: Mapping[bytes, bytes], now: float) -> None:
        self.connection, self.number, self.fields, self.since = connection, number, fields, now
        self.path, self.encoding = fields.get(b":path", b""), fields.get(b"grpc-encoding", IDENTITY)
        timeout_s = parse_timeout(fields.get(b"grpc-timeout", b""))
        self.deadline = None if timeout_s is None else now + timeout_s
        self.window = connection.initial_window  # for what is sent
        self.max_bytes = 0
        self.unacknowledged = 0  # bytes received that the client may not send again yet
        self.is_half_closed = self.is_paused = self.is_ended = False
        self._receiver: Receiver | None = None
        self._backlog, self._pending, self._trailers, self._has_headers = bytearray(), bytearray(), b"", False
        self._received = self._received_before = self._pending_before = self._sent = 0
        self._unsent: Reservation | None = None

    def begin(self, receiver: Receiver, max_bytes: int, budget: MemoryBudget) -> None:
        """max_bytes: of one message."""
        self._receiver, self.max_bytes, self._budget = receiver, max_bytes, budget
        self.path = b""
        self.fields = {
            name: self.fields[name] for name in TRACE_FIELDS if 0 < len(self.fields.get(name, b"")) <= TRACE_BYTES
        }
        self._reader = MessageReader(self.encoding, max_bytes, lambda: budget.reserve(0, self.connection.client))

    # from bytes to messages

    def receive(self, data: memoryview) -> None:
        """`data` is valid only now."""
        self.unacknowledged += len(data)
        self._received += len(data)
        if self._receiver is None or self.is_ended:
            return
        if self.is_paused:
            self._backlog += data  # at most RECEIVE_WINDOW
        else:
            self._read(data)
        self._acknowledge()

    def resume(self) -> None:
        """Go on after a pause, with what has come meanwhile."""
        self.is_paused = False
        waiting, self._backlog = self._backlog, bytearray()
        self._read(memoryview(waiting))
        self._acknowledge()
        if self.is_half_closed:
            self._close_half()

    def _read(self, data: memoryview) -> None:
        try:
            while data and not self.is_ended and self._receiver is not None:
                if self.is_paused:
                    self._backlog += data
                    return
                data, message = self._reader.read(data)
                if message is not None:
                    self._receiver.on_message(message)
        except ToolchainError as error:
            self.fail(error)

    def _acknowledge(self) -> None:
        """Let the client send more, unless it has to wait."""
        if self.unacknowledged > RECEIVE_WINDOW // 2 and not (self.is_paused or self.is_half_closed or self.is_ended):
            self.connection.write(window_frame(self.number, self.unacknowledged))
            self.unacknowledged = 0

    def half_close(self) -> None:
        """The client has sent everything."""
        self.is_half_closed = True
        if not self.is_paused:
            self._close_half()

    def _close_half(self) -> None:
        if self.is_ended or self.is_paused or self._receiver is None:
            return
        if self._reader.is_within:
            self.fail(RequestError("the call ended within a message"))
        else:
            self._receiver.on_half_close()

    # from replies to frames

    def send(self, content: bytes) -> None:
        """Send one message."""
        if not self.is_ended:
            self._pending += b"\0" + len(content).to_bytes(4, "big") + content
            self.flush()

    def reply(self, content: bytes) -> None:
        """Send the only message, and end the call well."""
        if not self.is_ended:
            self._pending += b"\0" + len(content).to_bytes(4, "big") + content
            self.end(GrpcStatus.OK)

    def fail(self, error: ToolchainError) -> None:
        pushback: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, Unavailable):  # gRPC proposal A6: when clients may retry
            pushback = ((b"grpc-retry-pushback-ms", b"%d" % (error.retry_after_s * 1000)),)
        self.end(status_of(error), str(error), pushback)

    def end(self, status: GrpcStatus, message: str = "", metadata: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Send the status after what is still to be sent; the first one counts."""
        if not self.is_ended:
            self._trailers = status_fields(status, message, metadata)
            self._end(status)
            self.flush()

    def refuse(self, fields: bytes) -> None:
        """End a call that has not begun by these fields alone."""
        self._has_headers, self._trailers, self.is_ended = True, fields, True
        self.flush()

    def cancel(self) -> None:
        """The client has gone, or wants no reply."""
        self._pending.clear()
        self._release_unsent()
        if not self.is_ended:
            self._end(None)

    @property
    def is_answered(self) -> bool:
        return bool(self._trailers)

    def _end(self, status: GrpcStatus | None) -> None:
        self.is_ended = True
        self._backlog.clear()
        if self._receiver is not None:
            self._reader.release()
            self._receiver.on_end(status)

    @property
    def unsent_bytes(self) -> int:
        return len(self._pending)

    def flush(self) -> None:
        """Send as much as the client has room for."""
        fields, out = b"" if self._has_headers else REPLY_FIELDS, list[bytes]()
        if fields and self._pending:
            out.append(frame(HEADERS, END_HEADERS, self.number, fields))
            fields, self._has_headers = b"", True
        size = 0
        while self._pending and (room := self._room) > 0:
            part = bytes(self._pending[:room])
            del self._pending[:room]
            self.window -= len(part)
            self._sent += len(part)
            self.connection.send_window -= len(part)
            out.append(frame(DATA, 0, self.number, part))
            size += len(part)
            if size > WRITE_BYTES:
                self.connection.write(b"".join(out))
                out, size = [], 0
        is_done = bool(self._trailers) and not self._pending
        if is_done:
            out.append(frame(HEADERS, END_HEADERS | END_STREAM, self.number, fields + self._trailers))
            if not self.is_half_closed:  # the rest of its messages is not wanted
                out.append(reset_frame(self.number, NO_ERROR))
        if out:
            self.connection.write(b"".join(out))
        if is_done:
            self._release_unsent()
            self.connection.finish(self)
        elif self._pending and not self._reserve_unsent():
            self._abandon()
        elif not self.is_ended and self._receiver is not None:
            self._receiver.on_sent()

    @property
    def _room(self) -> int:
        if self.connection.is_write_paused:
            return 0
        return min(self.window, self.connection.send_window, self.connection.max_frame)

    def _reserve_unsent(self) -> bool:
        """What the client does not read counts like what it sends; whether there is room for it."""
        try:
            if self._unsent is None:
                self._unsent = self._budget.reserve(0, self.connection.client)
            self._unsent.grow(max(0, len(self._pending) - self._unsent.size_bytes))
        except Unavailable:
            return False
        return True

    def _release_unsent(self) -> None:
        if self._unsent is not None:
            self._unsent.release()

    def _abandon(self) -> None:
        """End the call without the rest of its reply."""
        self.connection.write(reset_frame(self.number, CANCEL))
        self.cancel()
        self.connection.finish(self)

    def sweep(self, now: float, sender_s: float) -> None:
        """End the call where its client neither sends nor reads; called about once a second."""
        if now < self.since + sender_s:
            return
        enough = SLOWEST_BYTES_PER_S * sender_s
        if self._pending and self._sent < min(self._pending_before, enough):
            self._abandon()
        elif self._must_send and self._received - self._received_before < enough:
            words = f"less than {SLOWEST_BYTES_PER_S} bytes of the message a second for {sender_s:g} s"
            self.fail(SlowSender(words))
        self.since, self._received_before, self._pending_before = now, self._received, len(self._pending)
        self._sent = 0

    @property
    def _must_send(self) -> bool:
        """A stream may be silent between two messages; the connection then looks whether its client is there."""
        if self.is_half_closed or self.is_paused or self.is_ended or self._receiver is None:
            return False
        return self._reader.is_within or not self._receiver.is_streaming


def parse_timeout(text: bytes) -> float | None:
    """Seconds, from gRPC's `grpc-timeout`: at most eight digits and a unit; None for anything else."""
    number, unit = text[:-1], UNITS.get(text[-1:])
    return int(number) * unit if unit is not None and number.isdigit() and len(number) <= 8 else None


def kept_fields(fields: Iterable[Field]) -> dict[bytes, bytes]:
    """Those that matter: nothing else of a head is held while its call lasts. A repeated one becomes a list, as over
    HTTP/1.1: a proxy in front may have looked at the first only."""
    kept: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in KEPT_FIELDS:
            kept[name] = b", ".join((kept[name], value)) if name in kept else value
    return kept
