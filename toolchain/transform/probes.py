"""What a transform does to an image's size, read off images drawn for it: ramps give the scale and the crop, black and
white the letterbox. Names no filter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolchain.transform.colours import Normalization
from toolchain.transform.user_transform import UserTransform

SHAPES = ((480, 640), (640, 480), (360, 900), (500, 500))
MARGIN = 8  # the share of the content that is left out at each edge: one in so many
PADDED = 1.0  # levels between what black and white become, below which a pixel is no part of the image
Levels = NDArray[np.float64]


class Measurement(NamedTuple):
    """The size in pixels that an image was resized to, before any crop; the colour round it, of each channel, None
    where there is nothing round it."""

    down: float
    across: float
    colour: tuple[int, ...] | None


def measure(transform: UserTransform, normalization: Normalization, shape: tuple[int, int]) -> Measurement | None:
    """Of images of `shape`, height and width; None where the kept part is too small to be measured."""
    height, width = shape
    black, white = (
        normalization.levels(transform.apply(Image.new("RGB", (width, height), (level,) * 3))) for level in (0, 255)
    )
    inside = (white - black).mean(2) > PADDED
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) < MARGIN or len(columns) < MARGIN:
        return None
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    down, across = (
        _measure_side(normalization.levels(transform.apply(_ramp(height, width, axis)))[box], axis) for axis in (0, 1)
    )
    padded = (len(rows), len(columns)) != inside.shape
    return Measurement(down, across, _colour(black, inside) if padded else None)


def _ramp(height: int, width: int, axis: int) -> Image.Image:
    """Black to white along `axis`, rounded up and down in turn so that means are exact."""
    sizes = height, width
    line = 254 * (np.arange(sizes[axis]) + 0.5) / sizes[axis]
    other = (np.arange(sizes[1 - axis]) * 0.618) % 1
    pixels = np.floor(line[:, None] + other[None, :]).astype(np.uint8)
    return Image.fromarray(pixels if axis == 0 else pixels.T).convert("RGB")


def _measure_side(levels: Levels, axis: int) -> float:
    """The size that the ramp's side was resized to: its slope says so."""
    kept = levels.mean(2).mean(1 - axis)
    margin = len(kept) // MARGIN
    middle = kept[margin : len(kept) - margin]
    slope = float(np.polyfit(np.arange(len(middle)), middle, 1)[0])
    return 254 / slope if slope > 0 else 0.0


def _colour(black: Levels, inside: NDArray[np.bool_]) -> tuple[int, ...]:
    colour = np.clip(np.rint(np.median(black[~inside], axis=0)), 0, 255).astype(int).tolist()
    return tuple(colour[:1]) if len(set(colour)) == 1 else tuple(colour)
