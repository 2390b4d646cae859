"""A PNG file's chunks -> EncodedImage: the first picture without metadata. Decodes nothing."""

import zlib
from collections.abc import Iterator
from struct import unpack, unpack_from
from typing import NamedTuple

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import (
    MAX_BLOCK_BYTES,
    UPRIGHT,
    orientation_from_exif,
    orientation_from_raw_profile,
    orientation_from_xmp,
)
from toolchain.errors import RequestError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 16_384  # encoders write chunks of 8 kB and more
HEADER_BYTES, CHECKSUM_BYTES = 8, 4
NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# Bytes of memory for a pixel by colour type, with the copy that turns it into grey or RGB: grey, RGB, palette, grey and
# alpha, RGBA
PIXEL_BYTES = {0: 5, 2: 4, 3: 5, 4: 8, 6: 8}
GREY_16_BYTES = 6
RAW_PROFILE = b"Raw profile type exif\0"
XMP = b"XML:com.adobe.xmp\0"


class Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int


def read_png(content: bytes) -> EncodedImage:
    """RequestError where its headers are broken; the rest is for the decoder to judge."""
    chunks = list(_iterate_chunks(content))
    if not chunks or chunks[0].kind != b"IHDR" or chunks[0].end - chunks[0].start != 25 or chunks[0].end > len(content):
        raise incomplete_image("no header", len(content))
    width, height, depth, colours = unpack(">IIBB", content[16:26])
    if not width or not height or colours not in PIXEL_BYTES:
        raise incomplete_image(f"{width}x{height} pixels of colour type {colours}", len(content))
    return EncodedImage(
        _strip(content, chunks),
        "PNG",
        width,
        height,
        _orientation(content, chunks),
        GREY_16_BYTES if (colours, depth) == (0, 16) else PIXEL_BYTES[colours],
    )


def _iterate_chunks(content: bytes) -> Iterator[Chunk]:
    """Until the end of the picture or of the file, in which the last one may be cut."""
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + HEADER_BYTES > len(content):
            return
        size, kind = unpack_from(">I4s", content, at)
        end = at + HEADER_BYTES + size + CHECKSUM_BYTES
        yield Chunk(kind, at, end)
        if kind == b"IEND":
            return
        at = end
    raise RequestError(f"a PNG of more than {MAX_CHUNKS} chunks; save it again")


def _strip(content: bytes, chunks: list[Chunk]) -> bytes:
    """The file without what pixels do not need: often nothing has to go."""
    needed = [chunk for chunk in chunks if chunk.kind in NEEDED]
    if len(needed) == len(chunks) and chunks[-1].end == len(content):
        return content
    return b"".join([SIGNATURE, *(content[chunk.start : chunk.end] for chunk in needed)])


def _orientation(content: bytes, chunks: list[Chunk]) -> int:
    """EXIF's, else that of the text which editors write; of each kind the first one is read, whatever follows."""

    def first(kinds: tuple[bytes, ...], start: bytes = b"") -> bytes:
        for kind, at, end in chunks:
            if kind in kinds and content.startswith(start, at + HEADER_BYTES):
                return content[at + HEADER_BYTES + len(start) : min(end - CHECKSUM_BYTES, at + MAX_BLOCK_BYTES)]
        return b""

    return (
        orientation_from_exif(first((b"eXIf",)))
        or orientation_from_raw_profile(first((b"tEXt",), RAW_PROFILE) or _inflate(first((b"zTXt",), RAW_PROFILE)))
        or orientation_from_xmp(first((b"iTXt",), XMP))
        or UPRIGHT
    )


def _inflate(data: bytes) -> bytes:
    """The first part of compressed text."""
    try:
        return zlib.decompressobj().decompress(data[1:], 2 * MAX_BLOCK_BYTES)
    except zlib.error:
        return b""
