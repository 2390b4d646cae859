"""A model file whose integer weights are stored at the smallest width that holds their values and unpacked at load.

Weights of 4 bits take half a byte, of 1 bit an eighth; where most are zero, a mask marks the others and only those are
stored (Deep Compression's sparse form, Han et al. 2016, with a mask instead of run lengths). `entropy`: every part is
also xz-compressed, in place of that paper's Huffman stage. Unpacking restores every byte, so an engine computes with
the same integers as without packing: stored at N bits, not computed at N bits. Knows nothing of OpenVINO except that a
graph may be two files, one of text and one of constants at known places. Measured in docs/decisions/0012.

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
WIDTHS = (1, 2, 4, 8)  # bits per code; no code crosses a byte boundary
LEAST_BYTES = 64  # the description of a smaller constant costs more than packing saves
XZ = lzma.PRESET_DEFAULT

Bytes = NDArray[np.uint8]
Extent = tuple[int, int]


class PackedRegion(msgspec.Struct, frozen=True, array_like=True):
    """One constant of `size` bytes at `offset` of the constants file: code i, of `bits` bits, means the byte values[i].

    sparse: only nonzero bytes have a code, and a mask of one bit per byte marks them.
    """

    offset: int
    size: int
    bits: int
    values: bytes
    sparse: bool


class Header(msgspec.Struct, frozen=True):
    """constants_size: unpacked bytes of the constants; parts: stored and unpacked bytes of text, rest, masks, codes."""

    constants_size: int
    regions: tuple[PackedRegion, ...]
    parts: tuple[Extent, ...]
    entropy: bool


class Unpacked(NamedTuple):
    """text: the graph; constants: uint8 [bytes], which the graph refers to by offset."""

    text: bytes
    constants: Bytes


def pack(text: bytes, constants: Bytes, integers: Iterable[Extent], entropy: bool) -> bytes:
    """The file's content. integers: (offset, size) of the constants with one integer per byte, not overlapping."""
    regions = [_region(constants, extent) for extent in sorted(set(integers)) if extent[1] >= LEAST_BYTES]
    regions = [region for region in regions if region.sparse or region.bits < 8]
    masks, codes = [], []
    for region in regions:
        data = constants[region.offset : region.offset + region.size]
        if region.sparse:
            masks.append(np.packbits(data != 0))
            data = data[data != 0]
        codes.append(_codes(data, region))
    rest = constants[_outside(len(constants), regions)]
    raw = [part.tobytes() for part in (rest, _concatenate(masks), _concatenate(codes))]
    # the text is small next to the weights and compresses to a twentieth, so it is always compressed
    stored = [lzma.compress(text, preset=XZ), *(lzma.compress(part, preset=XZ) if entropy else part for part in raw)]
    sizes = tuple((len(after), len(before)) for after, before in zip(stored, [text, *raw], strict=True))
    header = msgspec.msgpack.encode(Header(len(constants), tuple(regions), sizes, entropy))
    return b"".join((MAGIC, len(header).to_bytes(4, "little"), header, *stored))


def unpack(content: bytes, name: str) -> Unpacked:
    """The text and constants that pack() was given; RecordError with the file's `name` for any other content."""
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
    counts = {bits: sum(region.size for region in header.regions if region.bits == bits) for bits in WIDTHS}
    return max(WIDTHS, key=lambda bits: counts[bits]) if header.regions else 8


def _region(constants: Bytes, extent: Extent) -> PackedRegion:
    offset, size = extent
    data = constants[offset : offset + size]
    values = np.flatnonzero(np.bincount(data, minlength=256)).astype(np.uint8)
    others = values[values != 0]
    bits, fewer = _width(len(values)), _width(len(others))
    nonzero = int(np.count_nonzero(data))
    if nonzero * fewer + size < size * bits:
        return PackedRegion(offset, size, fewer, others.tobytes() if fewer < 8 else b"", sparse=True)
    return PackedRegion(offset, size, bits, values.tobytes() if bits < 8 else b"", sparse=False)


def _width(values: int) -> int:
    return next(bits for bits in WIDTHS if 1 << bits >= values)


def _codes(data: Bytes, region: PackedRegion) -> Bytes:
    """The codes of `data`, as many per byte as fit, the first in the highest bits."""
    if region.bits == 8:
        return data
    each = 8 // region.bits
    code_of = np.zeros(256, np.uint8)
    code_of[np.frombuffer(region.values, np.uint8)] = np.arange(len(region.values))
    codes = code_of[data]
    rows = np.concatenate([codes, np.zeros(-len(codes) % each, np.uint8)]).reshape(-1, each)
    joined: Bytes = np.bitwise_or.reduce(rows << _shifts(region.bits), axis=1).astype(np.uint8)
    return joined


def _fill(constants: Bytes, regions: Sequence[PackedRegion], masks: Bytes, codes: Bytes) -> None:
    for region in regions:
        data = constants[region.offset : region.offset + region.size]
        count = region.size
        if region.sparse:
            mask = np.unpackbits(masks[: -(-region.size // 8)], count=region.size).astype(bool)
            masks, count = masks[-(-region.size // 8) :], int(mask.sum())
        length = -(-count * region.bits // 8)
        values = _values(codes[:length], region)[:count]
        codes = codes[length:]
        if region.sparse:
            data[mask] = values
        else:
            data[:] = values


def _values(codes: Bytes, region: PackedRegion) -> Bytes:
    if region.bits == 8:
        return codes
    spread = (codes[:, None] >> _shifts(region.bits)) & ((1 << region.bits) - 1)
    values: Bytes = np.frombuffer(region.values, np.uint8)[spread.reshape(-1)]
    return values


def _shifts(bits: int) -> Bytes:
    return np.arange(8 - bits, -1, -bits, dtype=np.uint8)


def _outside(size: int, regions: Sequence[PackedRegion]) -> NDArray[np.bool_]:
    """A mask of the bytes that are in no region."""
    outside = np.ones(size, bool)
    for region in regions:
        outside[region.offset : region.offset + region.size] = False
    return outside


def _concatenate(parts: Sequence[Bytes]) -> Bytes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _header(content: bytes) -> tuple[Header, int]:
    """The header, and the offset of the first part."""
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
