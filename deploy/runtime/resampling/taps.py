"""An output pixel as a weighted sum of a few input pixels along one side, for all output pixels at once.

Knows no library: opencv.py and torch_no_antialias.py say which pixels, which weights and how sums are rounded.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.resampling.geometry import Axis

Pixels = NDArray[np.uint8]
Sums = NDArray[Any]


class Taps(NamedTuple):
    """places: positions in the source, int [kept, taps]; weight: of each, [kept, taps], in the type of the sums."""

    places: NDArray[np.intp]
    weight: NDArray[Any]


def positions(axis: Axis) -> NDArray[np.float64]:
    """The kept positions in the resized image."""
    return np.arange(axis.start, axis.stop, dtype=np.float64)


def sum_across(image: Sums, taps: Taps) -> Sums:
    """[height, kept, channels] of [height, width, channels]."""
    sums: Sums = np.take(image, taps.places[:, 0], axis=1) * taps.weight[:, 0, None]
    for place in range(1, taps.places.shape[1]):
        sums += np.take(image, taps.places[:, place], axis=1) * taps.weight[:, place, None]
    return sums


def select_rows(image: Pixels, taps: Taps) -> tuple[Pixels, Taps]:
    """The rows that are read at all, and the taps on them: a reduction without antialiasing reads few."""
    rows, index = np.unique(taps.places, return_inverse=True)
    return image[rows], Taps(index.reshape(taps.places.shape), taps.weight)


def nearest(image: Pixels, down: NDArray[np.intp], across: NDArray[np.intp]) -> Pixels:
    """The pixels at these rows and columns."""
    return np.take(image[down], across, axis=1)
