"""A JPEG file's segments -> EncodedImage: the first picture without metadata. Decodes nothing."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import UPRIGHT, orientation_from_exif, orientation_from_xmp
from toolchain.errors import RequestError

SIGNATURE = b"\xff\xd8\xff"
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(rb"\xff([\x01-\xfe])")
MAX_SEGMENTS = 4096  # before the first scan: metadata in pieces of 64 kB
SCAN, END = 0xDA, 0xD9
BARE = (0x01, *range(0xD0, 0xD9))  # markers without a segment
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
EXIF_OR_XMP = 0xE1
# tables, frames, restart interval; JFIF and Adobe, which say how colours are stored
NEEDED = FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}
XMP = b"http://ns.adobe.com/xap/1.0/\0"


class Segment(NamedTuple):
    """start: of its marker; content: without marker and length."""

    marker: int
    start: int
    end: int
    content: bytes


def read_jpeg(content: bytes) -> EncodedImage:
    """RequestError where its headers are broken; the rest is for the decoder to judge."""
    segments = list(_iterate_segments(content))
    frames = [segment for segment in segments if segment.marker in FRAMES]
    if len(frames) != 1 or len(frames[0].content) < 6:
        raise incomplete_image(f"{len(frames)} frames", len(content))
    frame = frames[0]
    height, width = int.from_bytes(frame.content[1:3]), int.from_bytes(frame.content[3:5])
    if not width or not height:
        raise incomplete_image(f"{width}x{height} pixels", len(content))
    start = segments[-1].end
    end = content.find(END_OF_IMAGE, start) + 2
    end = len(content) if end < 2 else end
    scans, components = content.count(START_OF_SCAN, start, end), frame.content[5]
    return EncodedImage(
        _strip(content, segments, start, end),
        "JPEG",
        width,
        height,
        _orientation(segments),
        {1: 5, 3: 4}.get(components, 8),
        scans,
        components if scans > 1 or frame.marker in PROGRESSIVE else 0,
    )


def _iterate_segments(content: bytes) -> Iterator[Segment]:
    """Those before the first scan, which starts where the last one ends; what lies between them is skipped."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        match = MARKER.search(content, at)
        if match is None or match[1][0] == END:
            raise incomplete_image("no image data", len(content))
        marker, at = match[1][0], match.end()
        if marker == SCAN:
            yield Segment(SCAN, match.start(), match.start(), b"")
            return
        if marker not in BARE:
            end = at + int.from_bytes(content[at : at + 2])
            if end < at + 2 or end > len(content):
                raise incomplete_image("a broken header", len(content))
            yield Segment(marker, match.start(), end, content[at + 2 : end])
            at = end
    raise RequestError(f"a JPEG with more than {MAX_SEGMENTS} segments before its pixels; save it again")


def _strip(content: bytes, segments: list[Segment], start: int, end: int) -> bytes:
    """The file without what pixels do not need: often nothing has to go."""
    needed = [segment for segment in segments[:-1] if segment.marker in NEEDED]
    if sum(segment.end - segment.start for segment in needed) + 2 == start and end == len(content):
        return content
    return b"".join([content[:2], *(content[segment.start : segment.end] for segment in needed), content[start:end]])


def _orientation(segments: list[Segment]) -> int:
    """EXIF's, else XMP's."""
    blocks = [segment.content for segment in segments if segment.marker == EXIF_OR_XMP]
    exif = next((block for block in blocks if block.startswith(b"Exif\0\0")), b"")
    xmp = next((block for block in blocks if block.startswith(XMP)), b"")
    return orientation_from_exif(exif) or orientation_from_xmp(xmp) or UPRIGHT
