"""cv2.resize of 8-bit images in its own arithmetic: fixed-point weights of 11 bits, no antialiasing but INTER_AREA's.

Follows modules/imgproc/src/resize.cpp of OpenCV 4. Its builds may hand INTER_CUBIC and INTER_LANCZOS4 to Intel's IPP,
whose sums are rounded elsewhere; docs/guides/preprocessing.md has the differences measured.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.resampling.geometry import Axis
from deploy.runtime.resampling.taps import Pixels, Sums, Taps, nearest, positions, select_rows, sum_across

ONE = 2048  # a weight of one
BITS = 22  # of two weights multiplied
CUBIC = np.float32(-0.75)
TINY = 1e-3  # a share of a pixel that INTER_AREA leaves out
Fractions = NDArray[np.float32]


def resize_as_opencv(image: Pixels, down: Axis, across: Axis, filter_name: str) -> Pixels:
    """uint8 [height, width, channels] -> the kept part of the resized image."""
    if (down.resized, across.resized) == image.shape[:2]:
        return image[down.start : down.stop, across.start : across.stop]
    if filter_name == "nearest":
        return nearest(image, _nearest(down), _nearest(across))
    halves = (down.source, across.source) == (2 * down.resized, 2 * across.resized)
    shrinks = down.scale >= 1 and across.scale >= 1
    if (filter_name == "area" and shrinks) or (filter_name == "bilinear" and halves):
        whole = down.source % down.resized == 0 and across.source % across.resized == 0
        return _mean_of_blocks(image, down, across) if whole else _area(image, down, across)
    if filter_name == "area":
        return _weighted(image, _enlarging_taps(down), _enlarging_taps(across), _round_linear)
    size, weights, round_sums = KERNELS[filter_name]
    return _weighted(image, _taps(down, size, weights), _taps(across, size, weights), round_sums)


def _step(axis: Axis) -> float:
    return 1.0 / (axis.resized / axis.source)  # in this order, as there: the last bit counts


def _nearest(axis: Axis) -> NDArray[np.intp]:
    return np.minimum(np.floor(positions(axis) * _step(axis)), axis.source - 1).astype(np.intp)


def _taps(axis: Axis, size: int, weights: Callable[[Fractions], Fractions]) -> Taps:
    centre = ((positions(axis) + 0.5) * _step(axis) - 0.5).astype(np.float32)
    first = np.floor(centre)
    return _fixed_point(axis, first.astype(np.intp) - (size // 2 - 1), weights(centre - first))


def _enlarging_taps(axis: Axis) -> Taps:
    """INTER_AREA where a side grows: linear, between places that cover the source's pixels."""
    at = positions(axis)
    first = np.floor(at * _step(axis))
    share = ((at + 1) - (first + 1) * (axis.resized / axis.source)).astype(np.float32)
    share = np.where(share <= 0, np.float32(0), share - np.floor(share))
    return _fixed_point(axis, first.astype(np.intp), _linear(share))


def _fixed_point(axis: Axis, first: NDArray[np.intp], weights: Fractions) -> Taps:
    index = np.clip(first[:, None] + np.arange(weights.shape[1]), 0, axis.source - 1)
    return Taps(index, np.rint(weights * np.float32(ONE)).astype(np.int32))


def _weighted(image: Pixels, down: Taps, across: Taps, round_sums: Callable[[Sums, Taps], Sums]) -> Pixels:
    rows, down = select_rows(image, down)
    sums = round_sums(sum_across(rows, across), down)
    return np.clip(sums, 0, 255).astype(np.uint8)


def _round_linear(sums: Sums, down: Taps) -> Sums:
    upper, lower = ((sums[down.places[:, row]] >> 4) * down.weight[:, row, None, None] >> 16 for row in (0, 1))
    total: Sums = upper + lower + 2 >> 2
    return total


def _round_cubic(sums: Sums, down: Taps) -> Sums:
    """In single precision, the last row first."""
    weights = down.weight.astype(np.float32) * np.float32(1 / (ONE * ONE))
    total = sums[down.places[:, 3]].astype(np.float32) * weights[:, 3, None, None]
    for row in (2, 1, 0):
        total = sums[down.places[:, row]].astype(np.float32) * weights[:, row, None, None] + total
    return np.rint(total)


def _round_lanczos(sums: Sums, down: Taps) -> Sums:
    total = np.full((len(down.places), *sums.shape[1:]), 1 << (BITS - 1), np.int32)
    for row in range(down.places.shape[1]):
        total += sums[down.places[:, row]] * down.weight[:, row, None, None]
    return total >> BITS


def _linear(x: Fractions) -> Fractions:
    return np.stack([1 - x, x], 1)


def _cubic(x: Fractions) -> Fractions:
    before = ((CUBIC * (x + 1) - 5 * CUBIC) * (x + 1) + 8 * CUBIC) * (x + 1) - 4 * CUBIC
    left, right = (((CUBIC + 2) * y - (CUBIC + 3)) * y * y + 1 for y in (x, 1 - x))
    return np.stack([before, left, right, 1 - before - left - right], 1)


def _lanczos(x: Fractions) -> Fractions:
    """Of eight pixels."""
    distance = x[:, None].astype(np.float64) + 3 - np.arange(8)
    angle = np.pi * np.where(np.abs(distance) < 1e-6, 1e-6, distance)
    weights = (np.sin(angle) * np.sin(angle / 4) / (angle * angle)).astype(np.float32)
    normalized: Fractions = weights / weights.sum(1, keepdims=True, dtype=np.float32)
    return normalized


KERNELS: dict[str, tuple[int, Callable[[Fractions], Fractions], Callable[[Sums, Taps], Sums]]] = {
    "bilinear": (2, _linear, _round_linear),
    "bicubic": (4, _cubic, _round_cubic),
    "lanczos": (8, _lanczos, _round_lanczos),
}


def _mean_of_blocks(image: Pixels, down: Axis, across: Axis) -> Pixels:
    """Where each pixel is the mean of whole ones."""
    high, wide = down.source // down.resized, across.source // across.resized
    kept = image[down.start * high : down.stop * high, across.start * wide : across.stop * wide]
    blocks = kept.reshape(down.kept, high, across.kept, wide, -1)
    sums = blocks.sum(axis=(1, 3), dtype=np.int32)
    halved = (high, wide) == (2, 2)
    means = sums + 2 >> 2 if halved else np.rint(sums.astype(np.float32) * np.float32(1 / np.float32(high * wide)))
    return np.asarray(means, np.uint8)


def _area(image: Pixels, down: Axis, across: Axis) -> Pixels:
    rows, vertical = select_rows(image, _area_taps(down))
    sums = sum_across(rows, _area_taps(across))
    total: Sums = sums[vertical.places[:, 0]] * vertical.weight[:, 0, None, None]
    for row in range(1, vertical.places.shape[1]):
        total += sums[vertical.places[:, row]] * vertical.weight[:, row, None, None]
    return np.clip(np.rint(total), 0, 255).astype(np.uint8)


def _area_taps(axis: Axis) -> Taps:
    """Each covered pixel's share of the area; the first and the last are covered in part."""
    step = _step(axis)
    begin = positions(axis) * step
    end = begin + step
    cell = np.minimum(step, axis.source - begin)
    last = np.minimum(np.floor(end), axis.source - 1)
    first = np.minimum(np.ceil(begin), last)
    index = first[:, None] - 1 + np.arange(int(np.ceil(step)) + 2)
    whole = (index >= first[:, None]) & (index < last[:, None])
    weight = np.where(whole, 1 / cell[:, None], 0.0)
    head, tail = first - begin, end - last
    weight[:, 0] = np.where(head > TINY, head / cell, 0.0)
    share = np.where(tail > TINY, np.minimum(np.minimum(tail, 1.0), cell) / cell, 0.0)
    weight = np.where(index == last[:, None], share[:, None], weight)
    return Taps(np.clip(index, 0, axis.source - 1).astype(np.intp), weight.astype(np.float32))
