"""HTTP/2's frames (RFC 9113) as bytes, and gRPC's fields in them. Pure functions; no sockets, no state."""

import struct
from urllib.parse import quote

from deploy.runtime.grpc.status import GrpcStatus

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, HAS_PRIORITY = 0x4, 0x8, 0x20
HEAD_BYTES = 9
MAX_FRAME = 16384  # what both sides may send before anything is agreed
WINDOW, MAX_WINDOW = 65535, (1 << 31) - 1
# errors of a connection or a stream
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 3, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
# settings
ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST = range(2, 7)

Field = tuple[bytes, bytes]


def encode_field(name: bytes, value: bytes) -> bytes:
    """A literal that enters no table (RFC 7541, 6.2.2), so that no state is kept for what is sent."""
    return b"\0" + _encode_string(name) + _encode_string(value)


def _encode_string(content: bytes) -> bytes:
    size = len(content)
    if size < 127:
        return bytes([size]) + content
    head, size = bytearray([127]), size - 127
    while size >= 128:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + content


STATUS_200 = b"\x88"  # an entry of the static table
REPLY_FIELDS = STATUS_200 + encode_field(b"content-type", b"application/grpc")
OK_FIELDS = encode_field(b"grpc-status", b"0")


class Http2Error(Exception):
    """An error that ends the connection; code: HTTP/2's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, content: bytes | memoryview = b"") -> bytes:
    return struct.pack(">IBI", len(content) << 8 | kind, flags, stream) + content


def opening(calls: int, call_window: int, window: int, head_bytes: int) -> bytes:
    """What a server sends first: how many calls at a time, how much of each and of all may be on its way, how large a
    head."""
    settings = ((MAX_CONCURRENT_STREAMS, calls), (INITIAL_WINDOW_SIZE, call_window), (MAX_HEADER_LIST, head_bytes))
    content = b"".join(struct.pack(">HI", *setting) for setting in settings)
    return frame(SETTINGS, 0, 0, content) + window_frame(0, window - WINDOW)


def parse_settings(stream: int, content: bytes) -> list[tuple[int, int]]:
    """Http2Error for values that no settings frame may have."""
    if stream:
        raise Http2Error(PROTOCOL_ERROR, "settings of a call")
    if len(content) % 6:
        raise Http2Error(FRAME_SIZE_ERROR, "settings of a wrong length")
    settings = list(struct.iter_unpack(">HI", content))
    for name, value in settings:
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Http2Error(FLOW_CONTROL_ERROR, "a window that is too large")
        if name == MAX_FRAME_SIZE and not MAX_FRAME <= value < 1 << 24:
            raise Http2Error(PROTOCOL_ERROR, "a frame size out of bounds")
        if name == ENABLE_PUSH and value > 1:
            raise Http2Error(PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
    return settings


def pong(stream: int, flags: int, content: bytes) -> bytes:
    """The answer to a ping, none to an answer; Http2Error."""
    if stream or len(content) != 8:
        raise Http2Error(PROTOCOL_ERROR, "a ping of a wrong form")
    return b"" if flags & ACK else frame(PING, ACK, 0, content)


def parse_window(content: bytes) -> int:
    """How many bytes more may be sent; Http2Error."""
    if len(content) != 4:
        raise Http2Error(FRAME_SIZE_ERROR, "a window of a wrong length")
    size = int.from_bytes(content, "big") & MAX_WINDOW
    if not size:
        raise Http2Error(PROTOCOL_ERROR, "a window of nothing")
    return size


def window_frame(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset_frame(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway_frame(last_stream: int, code: int, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + text.encode("ascii", "replace"))


def strip_padding(content: bytes, flags: int) -> bytes:
    """The content of a HEADERS frame without its padding and priority."""
    start, end = 0, len(content)
    if flags & PADDED:
        start, end = 1, end - (content[0] if content else 1)
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise Http2Error(PROTOCOL_ERROR, "more padding than frame")
    return content[start:end]


def status_fields(status: GrpcStatus, message: str, metadata: tuple[Field, ...] = ()) -> bytes:
    """The trailers that end a call."""
    if status is GrpcStatus.OK:
        return OK_FIELDS
    # percent-encoded, as gRPC's specification has it
    text = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    fields = ((b"grpc-status", b"%d" % status), (b"grpc-message", text), *metadata)
    return b"".join(encode_field(*field) for field in fields)
