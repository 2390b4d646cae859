"""gRPC's messages from the bytes of a stream, each held in the memory budget as far as it has arrived."""

from collections.abc import Callable
from typing import NamedTuple

from deploy.runtime.content.coding import Inflater
from deploy.runtime.grpc.status import MessageTooLarge
from deploy.runtime.protocol.tensors import aligned_buffer
from deploy.runtime.scheduling.memory_budget import Reservation
from toolchain.errors import RequestError

PREFIX_BYTES = 5  # of a message: whether it is compressed, and its length
COPIES = 3  # of a message: as it came, parsed, and as a tensor
IDENTITY = b"identity"
ENCODINGS = frozenset((IDENTITY, b"gzip", b"deflate"))


class Message(NamedTuple):
    """encoding: empty where it is not compressed. Whoever gets a message releases its reservation."""

    content: memoryview
    encoding: bytes
    reservation: Reservation

    def inflater(self, max_bytes: int) -> Inflater:
        """Of a compressed one; max_bytes: that it may have once unpacked."""
        return Inflater(self.content, self.encoding.decode(), max_bytes, self.reservation, COPIES)

    def unpack(self, max_bytes: int) -> memoryview:
        """The message itself, in one go: for small ones. ToolchainError."""
        if not self.encoding:
            return self.content
        inflater = self.inflater(max_bytes)
        while not inflater.step():
            pass
        return inflater.content


def _too_large(size: str, max_bytes: int) -> MessageTooLarge:
    return MessageTooLarge(f"expected a message of at most {max_bytes} bytes, got {size} bytes")


class MessageReader:
    """Of one call. reserve: makes a reservation for its client; ToolchainError from every method."""

    def __init__(self, encoding: bytes, max_bytes: int, reserve: Callable[[], Reservation]) -> None:
        self._encoding, self._max_bytes, self._reserve = encoding, max_bytes, reserve
        self._prefix = bytearray()
        self._content: memoryview | None = None
        self._received = self._reserved_bytes = 0

    @property
    def is_within(self) -> bool:
        """Whether a part of a message has arrived."""
        return bool(self._prefix)

    def read(self, data: memoryview) -> tuple[memoryview, Message | None]:
        """Take the next part of a message from `data`: what is left of it, and the message where it is whole."""
        if self._content is None:
            missing = PREFIX_BYTES - len(self._prefix)
            self._prefix += data[:missing]
            data = data[missing:]
            if len(self._prefix) < PREFIX_BYTES:
                return data, None
            self._content = self._begin(int.from_bytes(self._prefix[1:], "big"))
        content = self._content
        part = data[: len(content) - self._received]
        content[self._received : self._received + len(part)] = part
        self._received += len(part)
        if self._received > self._reserved_bytes:
            self._grow(len(content))
        return data[len(part) :], self._finish(content) if self._received == len(content) else None

    def release(self) -> None:
        """Give up the message that has begun."""
        if self._content is not None:
            self._reservation.release()
            self._content = None

    def _begin(self, size: int) -> memoryview:
        if self._prefix[0] > 1 or (self._prefix[0] and self._encoding == IDENTITY):
            raise RequestError("a compressed message in a call without grpc-encoding")
        if size > self._max_bytes:
            raise _too_large(str(size), self._max_bytes)
        self._received = self._reserved_bytes = 0
        self._reservation = self._reserve()
        return aligned_buffer(size)  # pages that nothing has arrived for take no memory

    def _grow(self, size: int) -> None:
        """In few steps, and never much more than has arrived."""
        wanted = min(size, 2 * self._received)
        self._reservation.grow((wanted - self._reserved_bytes) * COPIES)
        self._reserved_bytes = wanted

    def _finish(self, content: memoryview) -> Message:
        encoding = self._encoding if self._prefix[0] else b""
        self._prefix.clear()
        self._content = None
        return Message(content, encoding, self._reservation)
