"""A WebP file's chunks -> EncodedImage: the first picture without its metadata and transparency. Decodes nothing."""

from collections.abc import Iterator
from struct import error as StructError
from struct import unpack_from
from typing import NamedTuple

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import MAX_BLOCK_BYTES, UPRIGHT, orientation_from_exif, orientation_from_xmp
from toolchain.errors import RequestError

SIGNATURE, KIND = b"RIFF", b"WEBP"
FIRST_CHUNK, HEADER_BYTES = 12, 8
LOSSY, LOSSLESS, CANVAS, FRAME = b"VP8 ", b"VP8L", b"VP8X", b"ANMF"
FRAME_BYTES = 16  # of an animation's frame, before its own chunks
MAX_CHUNKS = 4096
# Bytes of memory for a pixel: Pillow's decoder keeps two canvases, and hands over a third; a lossless picture has an
# alpha channel, whose copy is the fifth.
PIXEL_BYTES = {LOSSY: 16, LOSSLESS: 20}


class RiffChunk(NamedTuple):
    """start, end: of its content."""

    kind: bytes
    start: int
    end: int


def read_webp(content: bytes) -> EncodedImage:
    """RequestError where its headers are broken; the rest is for the decoder to judge."""
    try:
        chunks = list(_iterate_chunks(content, FIRST_CHUNK, len(content)))
        picture = _find_picture(content, chunks)
        width, height = _picture_size(content, picture)
        canvas = next((_canvas_size(content, chunk) for chunk in chunks if chunk.kind == CANVAS), (width, height))
    except StructError as error:
        raise incomplete_image("a broken header", len(content)) from error
    if not width or not height:
        raise incomplete_image(f"{width}x{height} pixels", len(content))
    if canvas != (width, height):
        raise RequestError(
            f"a WebP whose first frame of {width}x{height} pixels does not fill its {canvas[0]}x{canvas[1]}; "
            "save it as PNG"
        )
    is_plain = len(chunks) == 1 and picture is chunks[0]
    return EncodedImage(
        content if is_plain else _pack(picture.kind, memoryview(content)[picture.start : picture.end]),
        "WEBP",
        width,
        height,
        _orientation(content, chunks),
        PIXEL_BYTES[picture.kind],
    )


def _iterate_chunks(content: bytes, at: int, stop: int) -> Iterator[RiffChunk]:
    """Those that are whole; a frame's are within it."""
    for _ in range(MAX_CHUNKS):
        if at + HEADER_BYTES > stop:
            return
        kind, size = unpack_from("<4sI", content, at)
        start = at + HEADER_BYTES
        if start + size > stop:
            raise incomplete_image("a cut chunk", len(content))
        yield RiffChunk(kind, start, start + size)
        at = start + size + size % 2
    raise RequestError(f"a WebP of more than {MAX_CHUNKS} chunks; save it again")


def _find_picture(content: bytes, chunks: list[RiffChunk]) -> RiffChunk:
    """The first one, or that of the first frame."""
    for chunk in chunks:
        inner = _iterate_chunks(content, chunk.start + FRAME_BYTES, chunk.end) if chunk.kind == FRAME else (chunk,)
        for one in inner:
            if one.kind in PIXEL_BYTES:
                return one
    raise incomplete_image("no picture", len(content))


def _picture_size(content: bytes, picture: RiffChunk) -> tuple[int, int]:
    if picture.kind == LOSSY:
        if content[picture.start + 3 : picture.start + 6] != b"\x9d\x01\x2a":
            raise incomplete_image("a broken header", len(content))
        width, height = unpack_from("<HH", content, picture.start + 6)
        return width & 0x3FFF, height & 0x3FFF
    signature, bits = unpack_from("<BI", content, picture.start)
    if signature != 0x2F:
        raise incomplete_image("a broken header", len(content))
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _canvas_size(content: bytes, chunk: RiffChunk) -> tuple[int, int]:
    low, high, low_height, high_height = unpack_from("<HBHB", content, chunk.start + 4)
    return (high << 16 | low) + 1, (high_height << 16 | low_height) + 1


def _pack(kind: bytes, data: memoryview) -> bytes:
    """A file of one picture."""
    size, padding = len(data), b"\0" * (len(data) % 2)
    head = [SIGNATURE, (len(KIND) + HEADER_BYTES + size + len(padding)).to_bytes(4, "little"), KIND]
    return b"".join([*head, kind, size.to_bytes(4, "little"), data, padding])


def _orientation(content: bytes, chunks: list[RiffChunk]) -> int:
    """EXIF's, else XMP's."""

    def first(kind: bytes) -> bytes:
        found = next((chunk for chunk in chunks if chunk.kind == kind), None)
        return b"" if found is None else content[found.start : min(found.end, found.start + MAX_BLOCK_BYTES)]

    return orientation_from_exif(first(b"EXIF")) or orientation_from_xmp(first(b"XMP ")) or UPRIGHT
