"""A GIF file's blocks -> EncodedImage: the first frame without comments. Decodes nothing."""

from struct import error as StructError
from struct import unpack_from

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import UPRIGHT
from toolchain.errors import RequestError

SIGNATURES = (b"GIF87a", b"GIF89a")
SCREEN_BYTES, FRAME_BYTES = 13, 10
EXTENSION, FRAME = 0x21, 0x2C
TRANSPARENCY = 0xF9  # the extension that says which colour is none, and how long a frame is shown
MAX_BLOCKS = 16_384  # of 255 bytes at most, before the first frame
PIXEL_BYTES = 5  # of memory: a palette's index, and the copy that turns it into RGB


def read_gif(content: bytes) -> EncodedImage:
    """RequestError where its headers are broken; the rest is for the decoder to judge. What follows the first frame
    stays, since the decoder stops before it."""
    try:
        width, height, flags = unpack_from("<HHB", content, 6)
        start = SCREEN_BYTES + _palette_bytes(flags)
        at, transparency = _find_frame(content, start)
        left, top, frame_width, frame_height = unpack_from("<HHHH", content, at + 1)
    except (StructError, IndexError) as error:
        raise incomplete_image("no frame", len(content)) from error
    if not frame_width or not frame_height:
        raise incomplete_image(f"{frame_width}x{frame_height} pixels", len(content))
    kept = content if at == start else b"".join([content[:start], transparency, memoryview(content)[at:]])
    return EncodedImage(
        kept, "GIF", max(width, left + frame_width), max(height, top + frame_height), UPRIGHT, PIXEL_BYTES
    )


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _find_frame(content: bytes, at: int) -> tuple[int, bytes]:
    """Where the first frame starts, and the extension before it that says which colour is transparent."""
    transparency, blocks = b"", 0
    while content[at] == EXTENSION:
        start, kind = at, content[at + 1]
        at += 2
        while content[at]:
            at, blocks = at + 1 + content[at], blocks + 1
            if blocks > MAX_BLOCKS:
                raise RequestError(f"a GIF of more than {MAX_BLOCKS} blocks before its first frame; save it again")
        at += 1
        transparency = content[start:at] if kind == TRANSPARENCY else transparency
    if content[at] != FRAME or at + FRAME_BYTES >= len(content):
        raise IndexError
    return at, transparency
