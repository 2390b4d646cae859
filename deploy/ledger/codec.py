"""Many numbers as few bytes, exactly: what the ledger keeps of every latency.

A latency is a whole number of nanoseconds (deploy/runtime measures by perf_counter_ns), though it is told in
milliseconds: where all of them are, they are kept as integers, else as float64. Their bytes are sorted by weight before
they are compressed (the shuffle filter of HDF5 and Blosc), since the high ones are nearly all alike.
"""

from collections.abc import Iterator
from typing import Any, TypeVar
from zlib import compress, decompress

import msgspec
import numpy as np
from numpy.typing import NDArray

MARK = b"\x01"  # before 0.2.0 what is kept was a zlib stream, which begins with 0x78
RUN = 1  # msgpack's extension that stands for a run of numbers: its length
NS = 1e6  # nanoseconds in a millisecond
KINDS = ("<u4", "<u8", "<f8")
KindT = TypeVar("KindT")


def packed(value: object) -> bytes:
    """Structs, tuples and dicts as bytes; every list of floats in them goes into one compressed array."""
    floats: list[float] = []
    thin = _thinned(msgspec.to_builtins(value), floats)
    kind, content = _compressed(np.array(floats, np.float64))
    return MARK + msgspec.msgpack.encode((thin, kind, content))


def unpacked(content: bytes, kind: type[KindT]) -> KindT:
    """What packed() made of a `kind`; also what 0.1.0 kept. ValueError, zlib.error or MsgspecError for other bytes."""
    if not content.startswith(MARK):
        return msgspec.msgpack.decode(decompress(content), type=kind)
    thin, number, numbers = msgspec.msgpack.decode(content[len(MARK) :], type=tuple[Any, int, bytes])
    values = _expanded(number, numbers)
    thick = _thickened(thin, iter(values.tolist()))
    return msgspec.convert(thick, type=kind)


def _thinned(value: object, floats: list[float]) -> object:
    if isinstance(value, dict):
        return {key: _thinned(one, floats) for key, one in value.items()}
    if not isinstance(value, list | tuple):
        return value
    if value and all(type(one) is float for one in value):
        floats.extend(value)
        return msgspec.msgpack.Ext(RUN, len(value).to_bytes(4, "little"))
    return [_thinned(one, floats) for one in value]


def _thickened(value: object, floats: Iterator[float]) -> object:
    if isinstance(value, dict):
        return {key: _thickened(one, floats) for key, one in value.items()}
    if isinstance(value, list):
        return [_thickened(one, floats) for one in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return [next(floats) for _ in range(int.from_bytes(value.data, "little"))]
    return value


def _compressed(values: NDArray[np.float64]) -> tuple[int, bytes]:
    """(which of KINDS, bytes)."""
    kind, kept = _kind_of(values), values
    if kind < 2:
        kept = np.rint(values * NS)
    raw = np.ascontiguousarray(kept.astype(KINDS[kind]))
    shuffled = raw.view(np.uint8).reshape(len(raw), raw.itemsize).T
    return kind, compress(shuffled.tobytes())


def _kind_of(values: NDArray[np.float64]) -> int:
    with np.errstate(over="ignore"):  # infinity is then no whole number of nanoseconds
        whole = np.rint(values * NS)
    if not np.all(np.isfinite(whole)) or np.any(np.signbit(values)) or not np.array_equal(whole / NS, values):
        return 2
    most = whole.max(initial=0)
    return 0 if most < 2**32 else 1 if most < 2**53 else 2


def _expanded(kind: int, content: bytes) -> NDArray[np.float64]:
    size = np.dtype(KINDS[kind]).itemsize
    shuffled = np.frombuffer(decompress(content), np.uint8).reshape(size, -1)
    values = np.ascontiguousarray(shuffled.T).view(KINDS[kind]).ravel().astype(np.float64)
    return values / NS if kind < 2 else values
