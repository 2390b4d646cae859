"""A BMP file's header -> EncodedImage. Decodes nothing.

Uncompressed pixels alone: Pillow's run-length decoder is written in Python, and would hold the interpreter's lock for
seconds.
"""

from struct import error as StructError
from struct import unpack_from

from deploy.runtime.decoding.encoded_image import EncodedImage, incomplete_image
from deploy.runtime.decoding.orientation import UPRIGHT
from toolchain.errors import RequestError

SIGNATURE = b"BM"
CORE_BYTES, INFO_BYTES = 12, (40, 52, 56, 64, 108, 124)  # sizes of the headers that follow the file's own
FILE_BYTES = 14
UNCOMPRESSED = (0, 3)  # plain, and with a mask for each colour
PIXEL_BYTES = {1: 5, 4: 5, 8: 5, 16: 4, 24: 4, 32: 8}  # of memory, with the copy that turns a palette into RGB


def read_bmp(content: bytes) -> EncodedImage:
    """RequestError where its header is broken, or for pixels that are not all there."""
    try:
        width, height, bits, compression = _read_header(content)
        first = unpack_from("<I", content, 10)[0]
    except StructError as error:
        raise incomplete_image("no header", len(content)) from error
    if not width or not height or bits not in PIXEL_BYTES:
        raise incomplete_image(f"{width}x{height} pixels of {bits} bits", len(content))
    if compression not in UNCOMPRESSED:
        raise RequestError(f"a BMP with compression {compression}: expected none; save it as PNG")
    if first + (width * bits + 31) // 32 * 4 * height > len(content):
        raise incomplete_image("cut", len(content))  # before memory is taken for what a few bytes claim to be
    return EncodedImage(content, "BMP", width, height, UPRIGHT, PIXEL_BYTES[bits])


def _read_header(content: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits of a pixel, compression; a negative height: the first row is the upper one."""
    size = unpack_from("<I", content, FILE_BYTES)[0]
    if size == CORE_BYTES:
        width, height, _, bits = unpack_from("<HHHH", content, FILE_BYTES + 4)
        return width, height, bits, 0
    if size not in INFO_BYTES:
        raise incomplete_image(f"a header of {size} bytes", len(content))
    width, height, _, bits, compression = unpack_from("<IiHHI", content, FILE_BYTES + 4)
    return width, abs(height), bits, compression
