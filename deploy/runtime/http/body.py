"""The bodies of a connection's request and reply: what they hold of the memory budget, whether a request's arrives fast
enough, its chunks.

What has arrived counts, not what was announced: announcing costs a client nothing. No sockets here.
"""

import httptools

from deploy.runtime.http.limits import SLOWEST_BYTES_PER_S, Limits, check_body
from deploy.runtime.http.messages import HTTPError, HttpReply, RequestHead, error_reply
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.memory_budget import MemoryBudget, Reservation

REPLY_BYTES = 64 << 10  # transports keep as much of what a client does not read; beyond, it counts


class BodyMemory:
    """Of one request after the other: begin(), then add() as the body arrives where it is counted, and release() once
    the request is answered or lost. client: whose share of the budget it takes."""

    def __init__(self, budget: MemoryBudget, limits: Limits) -> None:
        self._budget, self._limits, self._small_bytes = budget, limits, limits.small_bytes
        self._reservation: Reservation | None = None
        self._before = 0
        self.client: str | None = None

    @property
    def is_counted(self) -> bool:
        return self._reservation is not None

    def begin(self, size: int) -> None:
        """A body of `size` bytes is announced (0: or its size is not); HTTPError 413 or 503 when it cannot be held."""
        self._before = 0
        if size <= self._small_bytes:
            return
        check_body(size, self._limits)
        try:
            self._budget.check(size, self.client)
        except Unavailable as error:
            raise HTTPError(503, error.reason, str(error)) from error
        self.add(0)

    def add(self, size: int) -> None:
        """HTTPError 503 when `size` further bytes cannot be held."""
        try:
            if self._reservation is None:
                self._reservation = self._budget.reserve(0, self.client)
            self._reservation.grow(size)
        except Unavailable as error:
            raise HTTPError(503, error.reason, str(error)) from error

    def add_chunk(self, size: int, received: int) -> None:
        """`size` bytes have come, of `received` in all, of a body whose size nobody knows."""
        check_body(received, self._limits)
        if received > self._small_bytes:
            self.add(size if self.is_counted else received)

    def hold_reply(self, reply: HttpReply) -> HttpReply:
        """Count the reply, which nobody may read, until release(); where there is no room, that is the reply."""
        if len(reply.body) <= REPLY_BYTES:
            return reply
        try:
            self.add(len(reply.body))
        except HTTPError as refusal:
            self.release()
            retry = (("Retry-After", "1"),)
            return error_reply(refusal.status, f"a reply of {len(reply.body)} bytes: {refusal}", retry)
        return reply

    def slow_text(self, received: int) -> str:
        """What is wrong where too little has been received since the last time, `sender_s` ago; empty: nothing is."""
        if received - self._before < SLOWEST_BYTES_PER_S * self._limits.sender_s:
            return f"less than {SLOWEST_BYTES_PER_S} bytes of the body a second for {self._limits.sender_s:g} s"
        self._before = received
        return ""

    def release(self) -> None:
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None


class ChunkReader:
    """A chunked body: bytes in the connection's buffer -> RequestHead.chunks. overhead_bytes: at most so many in a row
    that hold no body: chunk extensions and trailers."""

    def __init__(
        self, head: RequestHead, parser: httptools.HttpRequestParser, memory: BodyMemory, overhead_bytes: int
    ) -> None:
        self._head, self._parser, self._memory, self._overhead_bytes = head, parser, memory, overhead_bytes
        self._overhead = 0

    def read(self, buffer: bytearray, start: int, end: int) -> int:
        """Feed line by line, so that what follows the body never reaches this parser: where it stopped. HTTPError."""
        while start < end and not self._head.message_done:
            at = buffer.find(b"\n", start, end)
            stop = end if at < 0 else at + 1
            before = len(self._head.chunks)
            try:
                self._parser.feed_data(memoryview(buffer)[start:stop])
            except httptools.HttpParserError as error:
                raise HTTPError(400, "malformed", f"a malformed chunk: {error}") from error
            self._check(stop - start, len(self._head.chunks) - before)
            start = stop
        return start

    def _check(self, sent: int, body: int) -> None:
        """`sent` bytes held `body` bytes of the body."""
        self._overhead = 0 if body else self._overhead + sent
        if self._overhead > self._overhead_bytes:
            raise HTTPError(431, "head_too_large", f"more than {self._overhead_bytes} bytes around the chunks")
        self._memory.add_chunk(body, len(self._head.chunks))
