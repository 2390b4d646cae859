"""A model file whose integer weights lie at the smallest width that holds their values, unpacked in memory at load.

Weights of 4 bits take half a byte, of 1 bit an eighth; where most are zero, a bit says which are not and only those
follow (Deep Compression's sparse form, Han et al. 2016, with a mask instead of run lengths). `entropy`: every part is
xz-compressed besides, the place of that paper's Huffman stage. What comes out is what went in, byte for byte, so an
engine computes with the very integers that it would have had unpacked: stored at N bits, not computed at N bits.
Knows nothing of OpenVINO but that a graph may be two files, one of text and one of constants at known places.

Layout: MAGIC, length of the header (4 bytes, little endian), header (msgpack), then the parts in the header's order.
"""

import lzma
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import RecordError

MAGIC = b"EDGEPACK1"
WIDTHS = (1, 2, 4, 8)  # bits a code; none straddles a byte
LEAST_BYTES = 64  # a smaller constant costs more to describe than packing saves
XZ = lzma.PRESET_DEFAULT

Bytes = NDArray[np.uint8]
Place = tuple[int, int]


class Region(msgspec.Struct, frozen=True, array_like=True):
    """One constant of bytes at `offset` of the constants' file: code i stands for the byte values[i], at `bits` each.

    sparse: only those that are not zero have a code, and a mask of one bit each says which they are.
    """

    offset: int
    size: int
    bits: int
    values: bytes
    sparse: bool


class Header(msgspec.Struct, frozen=True):
    """constants_size: bytes of the constants unpacked; parts: stored and unpacked bytes of text, rest, masks, codes."""

    constants_size: int
    regions: tuple[Region, ...]
    parts: tuple[Place, ...]
    entropy: bool


class Unpacked(NamedTuple):
    """text: the graph; constants: uint8 [bytes], what it refers to by offset."""

    text: bytes
    constants: Bytes


def packed(text: bytes, constants: Bytes, integers: Iterable[Place], entropy: bool) -> bytes:
    """The file's content. integers: (offset, size) of the constants that hold one integer a byte; none overlaps."""
    regions = [_region(constants, place) for place in sorted(set(integers)) if place[1] >= LEAST_BYTES]
    regions = [one for one in regions if one.sparse or one.bits < 8]
    masks, codes = [], []
    for region in regions:
        taken = constants[region.offset : region.offset + region.size]
        if region.sparse:
            masks.append(np.packbits(taken != 0))
            taken = taken[taken != 0]
        codes.append(_codes(taken, region))
    rest = constants[_outside(len(constants), regions)]
    raw = [part.tobytes() for part in (rest, _joined(masks), _joined(codes))]
    # text is small beside any weights, and is a twentieth of itself when compressed: always
    stored = [lzma.compress(text, preset=XZ), *(lzma.compress(one, preset=XZ) if entropy else one for one in raw)]
    sizes = tuple((len(after), len(before)) for after, before in zip(stored, [text, *raw], strict=True))
    header = msgspec.msgpack.encode(Header(len(constants), tuple(regions), sizes, entropy))
    return b"".join((MAGIC, len(header).to_bytes(4, "little"), header, *stored))


def unpacked(content: bytes, name: str) -> Unpacked:
    """What went into packed(); RecordError, with the file's `name`, for anything else."""
    if not content.startswith(MAGIC):
        raise RecordError(f"{name}: not a packed model (it does not start with {MAGIC.decode()}); build it again")
    try:
        header, parts = _parts(content)
        text, rest, masks, codes = parts
        constants = np.zeros(header.constants_size, np.uint8)
        constants[_outside(len(constants), header.regions)] = np.frombuffer(rest, np.uint8)
        _fill(constants, header.regions, np.frombuffer(masks, np.uint8), np.frombuffer(codes, np.uint8))
    except (msgspec.MsgspecError, lzma.LZMAError, ValueError, IndexError) as error:
        raise RecordError(f"{name}: a packed model that cannot be unpacked ({error}); build it again") from error
    return Unpacked(text, constants)


def stored_bits(content: bytes) -> int:
    """The width at which most of the packed file's integers are stored; 8 where none is narrower."""
    header, _ = _header(content)
    counts = {bits: sum(one.size for one in header.regions if one.bits == bits) for bits in WIDTHS}
    return max(WIDTHS, key=lambda bits: counts[bits]) if header.regions else 8


def _region(constants: Bytes, place: Place) -> Region:
    offset, size = place
    taken = constants[offset : offset + size]
    values = np.flatnonzero(np.bincount(taken, minlength=256)).astype(np.uint8)
    others = values[values != 0]
    bits, fewer = _width(len(values)), _width(len(others))
    nonzero = int(np.count_nonzero(taken))
    if nonzero * fewer + size < size * bits:
        return Region(offset, size, fewer, others.tobytes() if fewer < 8 else b"", sparse=True)
    return Region(offset, size, bits, values.tobytes() if bits < 8 else b"", sparse=False)


def _width(values: int) -> int:
    return next(bits for bits in WIDTHS if 1 << bits >= values)


def _codes(taken: Bytes, region: Region) -> Bytes:
    """The codes of `taken`, as many to a byte as fit, the first in the highest bits."""
    if region.bits == 8:
        return taken
    each = 8 // region.bits
    code_of = np.zeros(256, np.uint8)
    code_of[np.frombuffer(region.values, np.uint8)] = np.arange(len(region.values))
    codes = code_of[taken]
    rows = np.concatenate([codes, np.zeros(-len(codes) % each, np.uint8)]).reshape(-1, each)
    joined: Bytes = np.bitwise_or.reduce(rows << _shifts(region.bits), axis=1).astype(np.uint8)
    return joined


def _fill(constants: Bytes, regions: Sequence[Region], masks: Bytes, codes: Bytes) -> None:
    for region in regions:
        taken = constants[region.offset : region.offset + region.size]
        count = region.size
        if region.sparse:
            mask = np.unpackbits(masks[: -(-region.size // 8)], count=region.size).astype(bool)
            masks, count = masks[-(-region.size // 8) :], int(mask.sum())
        length = -(-count * region.bits // 8)
        values = _values(codes[:length], region)[:count]
        codes = codes[length:]
        if region.sparse:
            taken[mask] = values
        else:
            taken[:] = values


def _values(codes: Bytes, region: Region) -> Bytes:
    if region.bits == 8:
        return codes
    spread = (codes[:, None] >> _shifts(region.bits)) & ((1 << region.bits) - 1)
    values: Bytes = np.frombuffer(region.values, np.uint8)[spread.reshape(-1)]
    return values


def _shifts(bits: int) -> Bytes:
    return np.arange(8 - bits, -1, -bits, dtype=np.uint8)


def _outside(size: int, regions: Sequence[Region]) -> NDArray[np.bool_]:
    """Which bytes are in no region."""
    outside = np.ones(size, bool)
    for region in regions:
        outside[region.offset : region.offset + region.size] = False
    return outside


def _joined(parts: Sequence[Bytes]) -> Bytes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _header(content: bytes) -> tuple[Header, int]:
    """The header, and where the parts begin."""
    start = len(MAGIC) + 4
    length = int.from_bytes(content[len(MAGIC) : start], "little")
    return msgspec.msgpack.decode(content[start : start + length], type=Header), start + length


def _parts(content: bytes) -> tuple[Header, list[bytes]]:
    header, at = _header(content)
    parts: list[bytes] = []
    for number, (stored, whole) in enumerate(header.parts):
        part = content[at : at + stored]
        part = lzma.decompress(part) if header.entropy or number == 0 else part
        if len(part) != whole:
            raise ValueError(f"part {number} has {len(part)} bytes, expected {whole}")
        parts.append(part)
        at += stored
    return header, parts
