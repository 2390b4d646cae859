"""Malformed images: small damaged JPEG and PNG files, and decompression bombs. Sends nothing."""

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
    )


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def image_case(chance: Random) -> Case:
    content = _bomb(chance) if chance.randrange(BOMBS) == 0 else _mutated_image(chance)
    match chance.randrange(4):
        case 0:
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(content).decode()]}
            return Case("kept", request("POST", INFER, json.dumps({"inputs": [tensor]}).encode()))
        case 1:
            return _binary(content, chance)
        case _:
            kind = chance.choice(("image/jpeg", "image/png", "image/"))
            return Case("kept", request("POST", INFER, content, {"Content-Type": kind}))


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


MAKERS: tuple[Callable[[], bytes], ...] = (
    *(_far_too_large, _as_large_as_may_be, _more_data_than_pixels, _text, _colours, _jpeg_of_65535, _scans),
)


@cache
def _make_bomb(number: int) -> bytes:
    return MAKERS[number]()


def _bomb(chance: Random) -> bytes:
    return _make_bomb(chance.randrange(len(MAKERS)))
