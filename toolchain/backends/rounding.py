"""Rounds weights to a few bits after training, without calibration: numpy in, integers and scales out.

A weight is code x scale. 8 and 4 bits: codes from -2^(b-1) to 2^(b-1) - 1; with `clip`, a search over how much of the
largest weights to clip finds the scale with the least squared error (Banner et al. 2019 derive it for known
distributions). 2 bits: the codes -3, -1, 1, 3, so that all four levels are used. 1 bit: -1 and 1 times the mean of |w|,
which has the least squared error (Rastegari et al. 2016). Knows nothing of graphs or engines.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
SHARES = np.linspace(1.0, 0.2, 25)  # of the largest |w|: the candidates for the value of the highest code
WIDTHS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Rounding:
    """How weights are rounded; mirrors compress.step.WeightRounding. group: how many weights of an output channel share
    a scale; None: all of them. keep_ends: keep the first and the last layer at 8 bits."""

    bits: int
    group: int | None = None
    clip: bool = True
    keep_ends: bool = True
    ignore: tuple[str, ...] = ()


class RoundedWeights(NamedTuple):
    """codes: int8 [rows, groups, weights of a group]; scales: float32 [rows, groups, 1]; weights = codes x scales."""

    codes: NDArray[np.int8]
    scales: Float


def round_to_bits(weights: Float, bits: int, group: int | None = None, clip: bool = True) -> RoundedWeights:
    """weights: [output channels, weights of each]. A `group` that does not divide the row length is ignored."""
    rows, each = weights.shape
    size = group if group is not None and each % group == 0 else each
    parts = weights.reshape(rows, -1, size).astype(np.float32)
    if bits == 1:
        return RoundedWeights(
            np.where(parts < 0, -1, 1).astype(np.int8), _nonzero_scales(np.abs(parts).mean(2, keepdims=True))
        )
    largest = np.abs(parts).max(2, keepdims=True)
    best, least = _nonzero_scales(largest / _highest_code(bits)), np.full(largest.shape, np.inf, np.float32)
    for share in SHARES if clip else SHARES[:1]:
        scales = _nonzero_scales(share * largest / _highest_code(bits))
        error = np.square(_codes(parts / scales, bits) * scales - parts).sum(2, keepdims=True)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    return RoundedWeights(_codes(parts / best, bits).astype(np.int8), best.astype(np.float32))


def _highest_code(bits: int) -> int:
    """The highest code."""
    return 3 if bits == 2 else (1 << (bits - 1)) - 1


def _codes(parts: Float, bits: int) -> Float:
    if bits == 2:
        odd: Float = np.clip(2 * np.floor(parts / 2) + 1, -3, 3)
        return odd
    whole: Float = np.clip(np.rint(parts), -_highest_code(bits) - 1, _highest_code(bits))
    return whole


def _nonzero_scales(scales: Float) -> Float:
    """A channel of zeros gets the scale 1; any would do."""
    return np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
