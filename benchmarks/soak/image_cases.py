"""Malformed images: small damaged files of every format, in every way to send one, and bombs. Sends nothing."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.serving.clients.http1 import request
from benchmarks.soak.cases import INFER, Case
from benchmarks.soak.mutations import mutate_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMBS = 200  # one case in this many costs the server an image of several megapixels


@cache
def valid_images() -> tuple[bytes, ...]:
    """Images of every mode and encoding for which a decoder has its own branch."""
    pixels = np.random.default_rng(7).integers(0, 256, (20, 30, 3), np.uint8)
    colour = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    return (
        *(_encode(colour, "JPEG"), _encode(colour, "JPEG", progressive=True), _encode(colour, "JPEG", exif=turned)),
        *(_encode(colour.convert(mode), "JPEG") for mode in ("L", "CMYK")),
        *(_encode(colour.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
        _encode(colour, "PNG", exif=turned),
        *(_encode(colour, "WEBP", **options) for options in ({}, {"lossless": True, "exif": turned})),
        *(_encode(colour, kind, save_all=True, append_images=[colour.rotate(180)]) for kind in ("WEBP", "GIF", "TIFF")),
        *(_encode(colour.convert(mode), "GIF", transparency=3) for mode in ("L", "P")),
        *(_encode(colour.convert(mode), "BMP") for mode in ("1", "P", "RGB", "RGBA")),
        *(
            _encode(colour.convert(mode), "TIFF", compression=way)
            for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16")
            for way in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
        ),
    )


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def image_case(chance: Random) -> Case:
    content = _bomb(chance) if chance.randrange(BOMBS) == 0 else _mutated_image(chance)
    match chance.randrange(5):
        case 0:
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
            return Case("kept", request("POST", INFER, json.dumps({"inputs": [tensor]}).encode()))
        case 1:
            return _binary(content, chance)
        case 2:
            return _in_form(content, chance)
        case _:
            kind = chance.choice(("image/jpeg", "image/png", "image/", "application/x-www-form-urlencoded", ""))
            return Case("kept", request("POST", INFER, *_pack(content, {"Content-Type": kind}, chance)))


def _pack(content: bytes, headers: dict[str, str], chance: Random) -> tuple[bytes, dict[str, str]]:
    """A body and its headers: sometimes compressed, sometimes only said to be, or damaged."""
    if chance.random() < 0.7:
        return content, headers
    coding = chance.choice(("gzip", "deflate", "x-gzip", "br", "gzip, gzip"))
    packer = zlib.compressobj(1, wbits=chance.choice((31, 15, -15)))
    packed = packer.compress(content) + packer.flush()
    packed = mutate_bytes(packed, chance) if chance.random() < 0.4 else packed
    return packed, headers | {"Content-Encoding": coding}


def _in_form(content: bytes, chance: Random) -> Case:
    """A form of a few parts, damaged in half of the cases."""
    head = b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    count = chance.choice((1, 1, 2, 40, 500))
    parts = [b"--edge\r\n" + chance.choice((head, head, b"\r\n")) + content[: 400_000 // count] for _ in range(count)]
    form = b"\r\n".join([*parts, b"--edge--\r\n"])
    form = mutate_bytes(form, chance) if chance.random() < 0.5 else form
    boundary = chance.choice(("edge", "edge", '"edge"', "", "other", "x" * 200))
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Case("kept", request("POST", INFER, *_pack(form, headers, chance)))


def _mutated_image(chance: Random) -> bytes:
    content = mutate_bytes(chance.choice(valid_images()), chance)
    # half of the PNGs get matching checksums again, since otherwise nothing after the first wrong one is read
    return _fix_checksums(content) if content.startswith(SIGNATURE) and chance.random() < 0.5 else content


def _binary(content: bytes, chance: Random) -> Case:
    """A BYTES tensor of one or two elements, with lengths that may be wrong."""
    size = len(content) + chance.choice((0, 0, 0, 1, -1, 1 << 31))
    raw = (size % (1 << 32)).to_bytes(4, "little") + content
    tensor = {"name": "image", "datatype": "BYTES", "shape": [chance.choice((1, 1, 2))]}
    text = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    return Case("kept", request("POST", INFER, text + raw, {"Inference-Header-Content-Length": str(len(text))}))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _fix_checksums(content: bytes) -> bytes:
    found, at = SIGNATURE, len(SIGNATURE)
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        found += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + min(size, len(content))])
        at += 12 + size
    return found


def _png(width: int, height: int, data: bytes, *more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"".join([SIGNATURE, header, *more, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def _compressed_zeros(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def _far_too_large() -> bytes:
    return _png(100_000, 100_000, _compressed_zeros(1000))


def _as_large_as_may_be() -> bytes:
    return _png(4000, 4000, _compressed_zeros(4000 * 4001))


def _more_data_than_pixels() -> bytes:
    return _png(8, 8, _compressed_zeros(100 << 20))


def _text() -> bytes:
    """A comment of a hundred megabytes, compressed."""
    return _png(8, 8, _compressed_zeros(72), chunk(b"zTXt", b"Comment\0\0" + _compressed_zeros(100 << 20)))


def _colours() -> bytes:
    return _png(8, 8, _compressed_zeros(72), chunk(b"iCCP", b"icc\0\0" + _compressed_zeros(100 << 20)))


def _jpeg_of_65535() -> bytes:
    """The size in the frame header, patched."""
    plain = valid_images()[0]
    at = plain.index(b"\xff\xc0") + 5
    return plain[:at] + b"\xff\xff\xff\xff" + plain[at + 4 :]


def _scans() -> bytes:
    """A progressive JPEG with thousands of scans."""
    plain = valid_images()[1]
    at = plain.rindex(b"\xff\xda")
    return plain[:at] + plain[at:-2] * 2000 + plain[-2:]


def _webp_bomb() -> bytes:
    """As many pixels as there may be, of one colour: two hundred bytes."""
    return _encode(Image.new("RGB", (3600, 3600)), "WEBP", lossless=True, method=0)


def _gif_bomb() -> bytes:
    return _encode(Image.new("L", (4000, 4000)), "GIF")


def _tiff_bomb() -> bytes:
    """A strip for each row, deflated zeros."""
    return _encode(Image.new("RGB", (4000, 4000)), "TIFF", compression="tiff_adobe_deflate")


def _bmp_without_pixels() -> bytes:
    return _encode(Image.new("L", (8, 8)), "BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + bytes(900)


MAKERS: tuple[Callable[[], bytes], ...] = (
    *(_far_too_large, _as_large_as_may_be, _more_data_than_pixels, _text, _colours, _jpeg_of_65535, _scans),
    *(_webp_bomb, _gif_bomb, _tiff_bomb, _bmp_without_pixels),
)


@cache
def _make_bomb(number: int) -> bytes:
    return MAKERS[number]()


def _bomb(chance: Random) -> bytes:
    return _make_bomb(chance.randrange(len(MAKERS)))
