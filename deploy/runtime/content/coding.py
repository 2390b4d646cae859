"""Compressed content: unpacked piece by piece, each held in the memory budget, and never beyond a bound.

A kilobyte can unpack to a megabyte, and a megabyte to a gigabyte: so what comes out counts, not what went in.
"""

import zlib

from deploy.runtime.scheduling.memory_budget import Reservation
from toolchain.errors import RequestError

GZIP, RAW, ZLIB = 31, -15, 15  # zlib's names for what is around the deflated data
INPUT_BYTES, OUTPUT_BYTES = 64 << 10, 256 << 10  # in and out of zlib at once
STEP_BYTES = 1 << 20  # in and out, before others get their turn: about 5 ms
SMALLEST_REPLY_BYTES = 8 << 10  # a smaller one is sent before it is compressed
LEVEL = 1  # of numbers as text, more take three times as long for a tenth


class UnsupportedCoding(RequestError):
    """Content in a coding that is not known here."""


class UnpackedTooLarge(RequestError):
    """Content that is larger than it may be, once it is unpacked."""


class Inflater:
    """step() until it returns True, then `content`. reservation: grows by `copies` times what comes out; coding: gzip
    or deflate, by HTTP's or gRPC's name. ToolchainError from every step."""

    def __init__(
        self, packed: memoryview, coding: str, max_bytes: int, reservation: Reservation, copies: int = 1
    ) -> None:
        self._packed, self._coding, self._max_bytes = packed, coding, max_bytes
        self._reservation, self._copies = reservation, copies
        self._inflater = zlib.decompressobj(_window_bits(packed, coding))
        self._parts: list[bytes] = []
        self._read = self._unpacked_bytes = 0
        self._waiting: bytes | memoryview = b""

    def step(self) -> bool:
        """Unpack the next part; whether that was the last one."""
        spent = 0
        while spent < STEP_BYTES and not self._inflater.eof:
            spent += self._unpack_piece()
        if self._inflater.eof and (left := len(self._inflater.unused_data) + len(self._packed) - self._read):
            raise RequestError(f"{left} bytes follow the end of the body's {self._coding}")
        return self._inflater.eof

    @property
    def content(self) -> memoryview:
        parts, self._parts = self._parts, []
        return memoryview(b"".join(parts))

    def _unpack_piece(self) -> int:
        """Bytes in and out."""
        if not self._waiting:
            self._waiting = self._packed[self._read : self._read + INPUT_BYTES]
            self._read += len(self._waiting)
        taken = len(self._waiting)
        try:
            part = self._inflater.decompress(self._waiting, OUTPUT_BYTES)
        except zlib.error as error:
            raise RequestError(f"the body is not {self._coding}: {error}") from error
        self._waiting = self._inflater.unconsumed_tail
        if not part and not taken and not self._inflater.eof:
            raise RequestError(f"the body's {self._coding} ends too early")
        self._add(part)
        return taken - len(self._waiting) + len(part)

    def _add(self, part: bytes) -> None:
        self._unpacked_bytes += len(part)
        if self._unpacked_bytes > self._max_bytes:
            raise UnpackedTooLarge(f"expected at most {self._max_bytes} bytes once unpacked, got more; send less")
        self._reservation.grow(len(part) * self._copies)
        self._parts.append(part)


def _window_bits(packed: memoryview, coding: str) -> int:
    """HTTP's deflate is zlib's format, but some clients send the bare data (RFC 9110, 8.4.1.2)."""
    if coding == "gzip":
        return GZIP
    start = bytes(packed[:2])
    return ZLIB if len(start) < 2 or (start[0] & 15 == 8 and int.from_bytes(start) % 31 == 0) else RAW


def content_coding(header: bytes) -> str:
    """From Content-Encoding: gzip or deflate, empty: as it is; UnsupportedCoding for any other, and for several."""
    name = header.decode("latin-1").strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return ""
    if name not in ("gzip", "deflate"):
        raise UnsupportedCoding(f"Content-Encoding {name[:40]!r}: expected gzip, deflate, or the body as it is")
    return name


def accepted_coding(header: bytes) -> str:
    """The first of gzip and deflate that Accept-Encoding names; empty: neither."""
    accepted = set()
    for item in header.decode("latin-1").lower().split(","):
        name, _, weight = item.partition(";")
        if weight.replace(" ", "").rstrip("0.") != "q=":
            accepted.add(name.strip().removeprefix("x-"))
    return next((name for name in ("gzip", "deflate") if name in accepted), "")


def pack_reply(body: bytes, coding: str) -> bytes:
    packer = zlib.compressobj(LEVEL, wbits=GZIP if coding == "gzip" else ZLIB)
    return packer.compress(body) + packer.flush()
