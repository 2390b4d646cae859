"""Small image files, genuine ones by Pillow and hostile ones by hand."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]  # options of each kind
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(side: int, depth: int = 8, colours: int = 2, before: bytes = b"", after: bytes = b"") -> bytes:
    """Zeros: a few kB, whatever the side."""
    line = bytes(1 + side * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours] // 8)
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(line) for _ in range(side)), packer.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colours, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(6)) if colours == 3 else b""
    return b"".join([PNG_SIGNATURE, header, palette, before, chunk(b"IDAT", data), after, chunk(b"IEND", b"")])


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


def many_scans(side: int, repeats: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    plain = encode(Image.new("RGB", (side, side), (10, 90, 60)), "JPEG", progressive=True, quality=20)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * (1 + repeats) + plain[-2:]


def as_mpo(jpeg: bytes) -> bytes:
    """With the segment that says that there are two pictures: Pillow calls that MPO, not JPEG."""
    mpo = encode(Image.new("RGB", (8, 8)), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    at = mpo.index(b"\xff\xe2")
    return jpeg[:2] + mpo[at : at + 2 + int.from_bytes(mpo[at + 2 : at + 4])] + jpeg[2:]


def bmp(width: int, height: int, bits: int = 24, compression: int = 0, pixels: bytes = b"") -> bytes:
    """One that claims so many pixels and holds `pixels`."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    palette = bytes(4 << bits) if bits <= 8 else b""
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + info + palette + pixels


def gif(width: int, height: int, before: bytes = b"") -> bytes:
    """Its frame's pixels are cut."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + before + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"


def webp(width: int, height: int, canvas: tuple[int, int] | None = None) -> bytes:
    """A lossless one whose header claims so many pixels, of a size that a canvas may contradict."""
    bits = (width - 1) | (height - 1) << 14
    chunks = b""
    if canvas is not None:
        sizes = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
        chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + sizes
    chunks += b"VP8L" + struct.pack("<IBI", 6, 0x2F, bits) + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def tiff(entries: dict[int, tuple[int, ...]], data: bytes = bytes(64)) -> bytes:
    """A directory with these entries, of at most two values each unless they are placed here, before `data`."""
    at = 8 + 2 + 12 * len(entries) + 4
    directory, more = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            packed, more = struct.pack("<I", at + len(more)), more + packed
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + more + data
