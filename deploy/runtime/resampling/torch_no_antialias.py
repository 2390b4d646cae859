"""torch's interpolate() of 8-bit images without antialiasing, in its own arithmetic: 16-bit weights, rounded to bytes
between the two sides.

Follows aten/src/ATen/native/cpu/UpSampleKernel.cpp, as torchvision's Resize(antialias=False) on uint8 tensors calls it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.resampling.geometry import Axis
from deploy.runtime.resampling.taps import Pixels, Sums, Taps, nearest, select_rows, sum_across

CUBIC = -0.75
MOST_BITS = 22
LONGEST_SIDE = 1 << 14  # resized pixels of which the largest weight is looked for: a thread of pixels has millions
Kernel = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def resize_as_torch(image: Pixels, down: Axis, across: Axis, filter_name: str) -> Pixels:
    """uint8 [height, width, channels] -> the kept part of the resized image."""
    if filter_name == "nearest":
        return nearest(image, _nearest(down), _nearest(across))
    size, kernel = KERNELS[filter_name]
    vertical, down_bits = _taps(down, size, kernel)
    horizontal, across_bits = _taps(across, size, kernel)
    rows, vertical = select_rows(image, vertical)
    if across.resized != across.source:
        rows = _to_bytes(sum_across(rows, horizontal), across_bits)
    else:
        rows = rows[:, across.start : across.stop]
    if down.resized == down.source:
        return rows
    sums: Sums = rows[vertical.places[:, 0]] * vertical.weight[:, 0, None, None]
    for row in range(1, size):
        sums += rows[vertical.places[:, row]] * vertical.weight[:, row, None, None]
    return _to_bytes(sums, down_bits)


def _to_bytes(sums: Sums, bits: int) -> Pixels:
    return np.asarray(np.clip(sums + (1 << (bits - 1)) >> bits, 0, 255), np.uint8)


def _nearest(axis: Axis) -> NDArray[np.intp]:
    at = np.arange(axis.start, axis.stop, dtype=np.float32) * np.float32(axis.scale)
    return np.asarray(np.minimum(np.floor(at), axis.source - 1), np.intp)


def _taps(axis: Axis, size: int, kernel: Kernel) -> tuple[Taps, int]:
    """The kept pixels' taps, and the bits after the point of their weights, as many as the largest weight leaves."""
    everywhere = axis.resized <= LONGEST_SIDE
    index, weight = _float_taps(axis, np.arange(axis.resized) if everywhere else np.arange(axis.start, axis.stop), size)
    weight = kernel(weight)
    index, weight = _gather_outside(index, weight, axis.source)
    largest = float(weight.max())
    bits = next((bits for bits in range(MOST_BITS) if int(0.5 + largest * (1 << (bits + 1))) >= 1 << 15), MOST_BITS)
    if everywhere:
        index, weight = index[axis.start : axis.stop], weight[axis.start : axis.stop]
    scaled = weight * (1 << bits)
    return Taps(index, np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)), bits


def _float_taps(axis: Axis, at: NDArray[np.intp], size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Positions, which may lie outside of the source, and their distances from the centre."""
    centre = axis.scale * (at + 0.5) - 0.5
    if size == 2:
        centre = np.maximum(centre, 0.0)
    first = np.minimum(np.floor(centre), axis.source - 1)
    share = np.clip(centre - first, 0.0, 1.0)
    steps = np.arange(size) + 1 - size // 2
    return first.astype(np.intp)[:, None] + steps, steps - share[:, None]


def _gather_outside(
    index: NDArray[np.intp], weight: NDArray[np.float64], source: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Weights of positions outside of the source are added to the nearest inside, before they are rounded."""
    inside = np.clip(index, 0, source - 1)
    gathered = np.zeros_like(weight)
    first = np.argmax(inside[:, :, None] == inside[:, None, :], axis=2)  # of equal positions the first
    np.add.at(gathered, (np.arange(len(index))[:, None], first), weight)
    return inside, gathered


def _linear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(1 - np.abs(x), 0.0))


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


KERNELS: dict[str, tuple[int, Kernel]] = {"bilinear": (2, _linear), "bicubic": (4, _cubic)}
