"""The ways of resizing that may explain what was measured: each a set of keys of [input], the usual ones first."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, get_args

from toolchain.records.tensors import FILTERS, Filter
from toolchain.transform.probes import Measurement

NEAR = 0.6  # pixels by which a measured size may be off
Keys = dict[str, Any]
ORDER: tuple[Filter, ...] = get_args(Filter)


def geometries(size: tuple[int, int], measured: Sequence[Measurement]) -> list[Keys]:
    """The keys that say how the size follows from an image's, with every way of rounding; size: the input's."""
    padded = next((each.colour for each in measured if each.colour is not None), None)
    if not measured:
        return [{}]
    if padded is not None:
        longest = round(max(max(each.down, each.across) for each in measured))
        box = {"resize": longest} if longest > max(size) else {}
        return [{"letterbox": padded, **box, **keys} for keys in _roundings(True, True)]
    if _constant([each.down for each in measured]) and _constant([each.across for each in measured]):
        resized = round(measured[0].down), round(measured[0].across)
        return [{}] if resized == size else [{"resize": resized, **keys} for keys in _roundings(False, True)]
    shorter = round(sum(min(each.down, each.across) for each in measured) / len(measured))
    return [{"resize": shorter, **keys} for keys in _roundings(True, True)]


def resamplings() -> Iterator[Keys]:
    for name in ORDER:
        yield from ({"resampler": library, "filter": name} for library, filters in FILTERS.items() if name in filters)


def _roundings(follows: bool, offset: bool) -> Iterator[Keys]:
    """follows: a side's size follows from the other's; offset: something is cut off or filled in."""
    sizes = ("floor", "round") if follows else ("floor",)
    offsets = ("round", "floor", "corner") if offset else ("round",)
    yield from ({"size_rounding": size, "offset": start} for size, start in product(sizes, offsets))


def _constant(sizes: Sequence[float]) -> bool:
    return max(sizes) - min(sizes) < NEAR * 2
