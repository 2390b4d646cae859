"""What a client sends on an HTTP/2 connection -> heads, data and other frames. Knows neither calls nor what they mean.

Data is handed over as it arrives, so that a frame of any size needs no buffer of its own; a head's parts are joined.
"""

from typing import NamedTuple, Protocol

from deploy.runtime.grpc import frames
from deploy.runtime.grpc.frames import Http2Error

BUFFER_BYTES = 32 << 10  # at least a whole frame
MAX_STEPS = 16  # frames handled before other connections get their turn; a head counts once more for each part of it
HEAD_STEP_BYTES = 256  # decoding a head takes about 0.2 ms a kilobyte
MAX_IDLE_FRAMES = 2000  # frames without data for a call in between: settings, pings, calls that are refused at once
LARGE_DATA = 1024  # what is on its way to a call that was refused comes in larger frames


class FrameHandler(Protocol):
    """Gets what the client has sent, in its order; each may raise Http2Error. begin_data: the size counts for flow
    control; whether the call goes on; on_data: `part` is valid only now; end_data: the last frame of its stream."""

    def on_head(self, stream: int, block: bytes, is_last: bool) -> None: ...
    def begin_data(self, stream: int, size: int) -> bool: ...
    def on_data(self, stream: int, part: memoryview) -> None: ...
    def end_data(self, stream: int) -> None: ...
    def on_frame(self, kind: int, flags: int, stream: int, content: bytes) -> None: ...


class _DataFrame(NamedTuple):
    """What is still to come of a DATA frame."""

    stream: int
    size: int
    padding: int
    is_last: bool


class FrameReader:
    """room: where received bytes go; received() handles them. head_bytes: the most for the head of a call."""

    def __init__(self, handler: FrameHandler, head_bytes: int) -> None:
        self._handler, self._head_bytes = handler, head_bytes
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._end = self._idle_frames = self._steps = 0
        self._has_preface = False
        self._head: tuple[int, int, bytearray] | None = None  # stream, flags, block: until the last CONTINUATION
        self._data: _DataFrame | None = None

    @property
    def room(self) -> memoryview:
        return self._view[self._end :]

    def received(self, count: int) -> bool:
        """`count` more bytes lie in the room; whether all that can be is handled, or received(0) has to go on with it
        after others had their turn. Http2Error: the connection cannot go on."""
        self._end += count
        self._steps = 0
        at = 0 if self._has_preface else self._read_preface()
        while self._has_preface and self._steps < MAX_STEPS and (after := self._read_next(at)) is not None:
            at = after
        left = self._end - at
        if at and left:
            self._view[:left] = self._view[at : self._end]
        self._end = left
        return self._steps < MAX_STEPS

    def release(self) -> None:
        """Give up the buffer: reader and connection hold each other until the collector finds them."""
        self._view.release()
        self._buffer = bytearray()

    def _read_preface(self) -> int:
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(self._buffer[: min(self._end, size)]):
            raise Http2Error(frames.PROTOCOL_ERROR, "expected HTTP/2, as gRPC clients speak it")
        self._has_preface = self._end >= size
        return size if self._has_preface else 0

    def _read_next(self, at: int) -> int | None:
        """Handle the next frame, or what is here of a DATA frame; where it ends. None: more bytes are needed."""
        if self._data is not None:
            return None if at == self._end else self._read_data(self._data, at)
        if self._end - at < frames.HEAD_BYTES:
            return None
        size = int.from_bytes(self._buffer[at : at + 3], "big")
        kind, flags, start = self._buffer[at + 3], self._buffer[at + 4], at + frames.HEAD_BYTES
        stream = int.from_bytes(self._buffer[at + 5 : start], "big") & frames.MAX_WINDOW
        if size > frames.MAX_FRAME:
            raise Http2Error(frames.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
        if self._head is not None and (kind != frames.CONTINUATION or stream != self._head[0]):
            raise Http2Error(frames.PROTOCOL_ERROR, "another frame within a call's head")
        if kind == frames.DATA:
            return self._begin_data(start, size, flags, stream)
        if self._end < start + size:
            return None
        self._read_control(kind, flags, stream, bytes(self._view[start : start + size]))
        return start + size

    def _begin_data(self, at: int, size: int, flags: int, stream: int) -> int | None:
        padding = 0
        if flags & frames.PADDED:
            if at == self._end:
                return None
            padding, at = self._buffer[at] + 1, at + 1
        if padding > size:
            raise Http2Error(frames.PROTOCOL_ERROR, "more padding than frame")
        self._steps += 1
        is_wanted = self._handler.begin_data(stream, size)
        if is_wanted and size > padding:
            self._idle_frames = 0
        elif size < LARGE_DATA or size == padding:
            self._count_idle_frame()
        data = _DataFrame(stream, size - padding, max(0, padding - 1), bool(flags & frames.END_STREAM))
        return self._read_data(data, at)

    def _read_data(self, data: _DataFrame, at: int) -> int:
        """Hand over what is here of a DATA frame, and skip its padding; where that ends."""
        part = min(data.size, self._end - at)
        if part:
            self._handler.on_data(data.stream, self._view[at : at + part])
        skipped = min(data.padding, self._end - at - part)
        left = data._replace(size=data.size - part, padding=data.padding - skipped)
        self._data = left if left.size or left.padding else None
        if self._data is None and data.is_last:
            self._handler.end_data(data.stream)
        return at + part + skipped

    def _read_control(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        self._steps += 1
        self._count_idle_frame()
        if kind == frames.HEADERS:
            self._add_to_head(stream, flags, bytearray(frames.strip_padding(content, flags)))
            return
        if kind == frames.CONTINUATION:
            if self._head is None:
                raise Http2Error(frames.PROTOCOL_ERROR, "the continuation of nothing")
            self._add_to_head(stream, self._head[1] | flags & frames.END_HEADERS, self._head[2] + content)
        else:
            self._handler.on_frame(kind, flags, stream, content)

    def _add_to_head(self, stream: int, flags: int, block: bytearray) -> None:
        if len(block) > self._head_bytes:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, f"a head of more than {self._head_bytes} bytes")
        if flags & frames.END_HEADERS:
            self._head = None
            self._steps += len(block) // HEAD_STEP_BYTES
            self._handler.on_head(stream, bytes(block), bool(flags & frames.END_STREAM))
        else:
            self._head = stream, flags, block

    def _count_idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise Http2Error(frames.ENHANCE_YOUR_CALM, f"more than {MAX_IDLE_FRAMES} frames without data")
