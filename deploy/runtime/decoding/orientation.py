"""The orientation that a camera or an editor wrote into an image file, and nothing else of its metadata.

Pillow would read every entry of an EXIF block, and each may point at the whole block again: 64 kB become 300 MB.
"""

import re
from struct import calcsize, unpack_from
from struct import error as StructError

UPRIGHT = 1
ORIENTATION = 0x0112
MAX_BLOCK_BYTES = 64 << 10  # a JPEG segment's own limit
BYTE_ORDERS = {b"II": "<", b"MM": ">"}
VALUE_FORMATS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT, LONG
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_from_exif(block: bytes) -> int | None:
    """From a TIFF block, which may follow `Exif`; None where it holds no orientation."""
    tiff = block.removeprefix(b"Exif\0\0")[:MAX_BLOCK_BYTES]
    order = BYTE_ORDERS.get(tiff[:2])
    if order is None:
        return None
    try:
        first = unpack_from(f"{order}I", tiff, 4)[0]
        count = unpack_from(f"{order}H", tiff, first)[0]
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = unpack_from(f"{order}HH", tiff, entry)
            if tag == ORIENTATION:
                return _read_value(tiff, entry + 8, order, kind)
    except StructError:  # it ends before its entries do
        pass
    return None


def _read_value(tiff: bytes, at: int, order: str, kind: int) -> int | None:
    form = VALUE_FORMATS.get(kind)
    return None if form is None or at + calcsize(form) > len(tiff) else int(unpack_from(f"{order}{form}", tiff, at)[0])


def orientation_from_xmp(packet: bytes) -> int | None:
    match = XMP_ORIENTATION.search(packet[:MAX_BLOCK_BYTES])
    return None if match is None else int(match[1])


def orientation_from_raw_profile(text: bytes) -> int | None:
    """From the hexadecimal EXIF block that ImageMagick puts into a PNG's text: name, length, then the digits."""
    try:
        return orientation_from_exif(bytes.fromhex(b"".join(text.split()[2:]).decode("ascii")))
    except ValueError:
        return None
