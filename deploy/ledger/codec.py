"""Lossless compression of latency samples, so that the ledger can keep every one.

A latency is a whole number of nanoseconds (deploy/runtime measures by perf_counter_ns), though it is reported in
milliseconds. If all samples are, they are stored as integers, otherwise as float64. Bytes of equal significance are
grouped before compression (the shuffle filter of HDF5 and Blosc), since the high bytes are nearly all equal.
"""

from collections.abc import Iterator
from typing import Any, TypeVar
from zlib import compress, decompress

import msgspec
import numpy as np
from numpy.typing import NDArray

MARK = b"\x01"  # before 0.2.0 the content was a zlib stream, which begins with 0x78
FLOAT_RUN = 1  # msgpack extension type that stands for a run of floats; its data is their count
NS = 1e6  # nanoseconds in a millisecond
DTYPES = ("<u4", "<u8", "<f8")
DecodedT = TypeVar("DecodedT")


def pack(value: object) -> bytes:
    """Encode structs, tuples and dicts; every list of floats in them goes into one compressed array."""
    floats: list[float] = []
    rest = _extract_floats(msgspec.to_builtins(value), floats)
    kind, content = _compress(np.array(floats, np.float64))
    return MARK + msgspec.msgpack.encode((rest, kind, content))


def unpack(content: bytes, kind: type[DecodedT]) -> DecodedT:
    """Decode what pack() returned for a `kind`, or what 0.1.0 stored. ValueError, zlib.error or MsgspecError for other
    bytes."""
    if not content.startswith(MARK):
        return msgspec.msgpack.decode(decompress(content), type=kind)
    rest, dtype, numbers = msgspec.msgpack.decode(content[len(MARK) :], type=tuple[Any, int, bytes])
    values = _decompress(dtype, numbers)
    return msgspec.convert(_restore_floats(rest, iter(values.tolist())), type=kind)


def _extract_floats(value: object, floats: list[float]) -> object:
    if isinstance(value, dict):
        return {key: _extract_floats(item, floats) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if value and all(type(item) is float for item in value):
        floats.extend(value)
        return msgspec.msgpack.Ext(FLOAT_RUN, len(value).to_bytes(4, "little"))
    return [_extract_floats(item, floats) for item in value]


def _restore_floats(value: object, floats: Iterator[float]) -> object:
    if isinstance(value, dict):
        return {key: _restore_floats(item, floats) for key, item in value.items()}
    if isinstance(value, list):
        return [_restore_floats(item, floats) for item in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return [next(floats) for _ in range(int.from_bytes(value.data, "little"))]
    return value


def _compress(values: NDArray[np.float64]) -> tuple[int, bytes]:
    """(which of KINDS, bytes)."""
    kind = _choose_dtype(values)
    stored = np.rint(values * NS) if kind < 2 else values
    raw = np.ascontiguousarray(stored.astype(DTYPES[kind]))
    shuffled = raw.view(np.uint8).reshape(len(raw), raw.itemsize).T
    return kind, compress(shuffled.tobytes())


def _choose_dtype(values: NDArray[np.float64]) -> int:
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is checked below
        whole = np.rint(values * NS)
    if not np.all(np.isfinite(whole)) or np.any(np.signbit(values)) or not np.array_equal(whole / NS, values):
        return 2
    most = whole.max(initial=0)
    return 0 if most < 2**32 else 1 if most < 2**53 else 2


def _decompress(kind: int, content: bytes) -> NDArray[np.float64]:
    size = np.dtype(DTYPES[kind]).itemsize
    shuffled = np.frombuffer(decompress(content), np.uint8).reshape(size, -1)
    values = np.ascontiguousarray(shuffled.T).view(DTYPES[kind]).ravel().astype(np.float64)
    return values / NS if kind < 2 else values
