"""One integer layer: can two of its products exceed 16 bits, and how often and how far do they on given activations?

Products are added in pairs of neighbouring input channels at one place of the kernel (pmaddubsw); the pairs' sums are
added at 32 bits. A depthwise convolution has no pairs: engines widen its products one by one.
"""

from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolchain.records.saturation import LayerSaturation

HIGHEST, LOWEST = (1 << 15) - 1, -(1 << 15)
ACTIVATION = 255  # the largest
SAFE_SUM = HIGHEST // ACTIVATION  # of two weights of one sign: 128
POSITIONS = 256  # outputs of each image that are computed: a sample, spread evenly

UInt8 = NDArray[np.uint8]
Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]


class IntegerLayer(NamedTuple):
    """weights: int8 [outputs, inputs / groups, height, width]; 1x1 for a linear layer. pads: top, left, bottom, right.
    zero_point: the activation that stands for 0, and fills the padding."""

    name: str
    weights: Int8
    zero_point: int
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


def weight_pairs(layer: IntegerLayer) -> Int32:
    """[outputs, taps x pairs, 2]: the weights that meet in one sum; an odd channel meets a zero. None for depthwise."""
    outputs, channels, *_ = layer.weights.shape
    if channels == 1 and layer.groups > 1:
        return np.zeros((outputs, 0, 2), np.int32)
    taps = layer.weights.astype(np.int32).transpose(0, 2, 3, 1).reshape(outputs, -1, channels)
    padded = np.pad(taps, ((0, 0), (0, 0), (0, channels % 2)))
    return padded.reshape(outputs, -1, 2)


def risky_pairs(pairs: Int32) -> NDArray[np.bool_]:
    """[outputs, taps x pairs]: where some activations could make the sum stop."""
    most = np.maximum(np.clip(pairs, 0, None).sum(2), np.clip(-pairs, 0, None).sum(2))
    risky: NDArray[np.bool_] = most > SAFE_SUM
    return risky


def can_saturate(layer: IntegerLayer) -> bool:
    """Whether any image could; decided by the weights alone."""
    return bool(risky_pairs(weight_pairs(layer)).any())


@dataclass
class SaturationMeter:
    """Adds up what saturation would do to one layer, image by image."""

    layer: IntegerLayer
    sums: int = 0
    stopped: int = 0
    outputs: int = 0
    square_error: float = 0.0
    total: float = 0.0
    square_total: float = 0.0
    pairs: Int32 = field(init=False)
    risky: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = weight_pairs(self.layer)
        self.risky = risky_pairs(self.pairs)

    def add(self, activations: UInt8) -> None:
        """activations: [channels, height, width] of one image, or [channels]."""
        columns = input_columns(self.layer, activations)
        for group, outputs in enumerate(np.split(np.arange(len(self.pairs)), self.layer.groups)):
            self._add_group(columns[group], outputs)

    def _add_group(self, columns: UInt8, outputs: NDArray[np.intp]) -> None:
        """columns: [positions, taps x pairs, 2]."""
        weights, risky = self.pairs[outputs], self.risky[outputs]
        lost, stopped = excess(columns, weights, risky)
        exact = columns.reshape(len(columns), -1).astype(np.float64) @ weights.reshape(len(outputs), -1).T
        exact -= self.layer.zero_point * weights.sum((1, 2))
        self.sums += len(columns) * risky.size
        self.stopped += stopped
        self.outputs += exact.size
        self.square_error += float(np.square(lost, dtype=np.float64).sum())
        self.total += float(exact.sum())
        self.square_total += float(np.square(exact).sum())

    def result(self) -> LayerSaturation | None:
        """None where no sum stopped."""
        if not self.stopped:
            return None
        spread = sqrt(max(self.square_total / self.outputs - (self.total / self.outputs) ** 2, 0.0)) or 1.0
        error = sqrt(self.square_error / self.outputs) / spread
        return LayerSaturation(self.layer.name, self.stopped / self.sums, error)


def excess(columns: UInt8, weights: Int32, risky: NDArray[np.bool_]) -> tuple[Int32, int]:
    """What the exact outputs [positions, outputs] are above those with saturation, and how many sums stopped.

    columns: [positions, taps x pairs, 2]; weights: [outputs, taps x pairs, 2]; only the `risky` pairs are looked at."""
    lost, stopped = np.zeros((len(columns), len(weights)), np.int32), 0
    for pair in np.flatnonzero(risky.any(0)):
        outputs = np.flatnonzero(risky[:, pair])
        sums = columns[:, pair].astype(np.int32) @ weights[outputs, pair].T
        over = sums - np.clip(sums, LOWEST, HIGHEST)
        lost[:, outputs] += over
        stopped += int(np.count_nonzero(over))
    return lost, stopped


def input_columns(layer: IntegerLayer, activations: UInt8, positions: int | None = POSITIONS) -> UInt8:
    """[groups, positions, taps x pairs, 2]: the activations that meet `weight_pairs`; positions: how many, None:
    all."""
    if activations.ndim == 1:
        activations = activations[:, None, None]
    top, left, bottom, right = layer.pads
    padded = np.pad(activations, ((0, 0), (top, bottom), (left, right)), constant_values=layer.zero_point)
    height, width = layer.weights.shape[2:]
    rows = np.arange(0, padded.shape[1] - layer.dilations[0] * (height - 1), layer.strides[0])
    across = np.arange(0, padded.shape[2] - layer.dilations[1] * (width - 1), layer.strides[1])
    places = np.arange(len(rows) * len(across))
    if positions is not None and len(places) > positions:
        places = np.linspace(0, len(places) - 1, positions).astype(np.intp)
    y = rows[places // len(across), None, None] + layer.dilations[0] * np.arange(height)[None, :, None]
    x = across[places % len(across), None, None] + layer.dilations[1] * np.arange(width)[None, None, :]
    taken = padded[:, y, x].reshape(layer.groups, -1, len(places), height * width).transpose(0, 2, 3, 1)
    channels = taken.shape[-1]
    if channels == 1 and layer.groups > 1:
        return np.zeros((layer.groups, len(places), 0, 2), np.uint8)
    odd = np.pad(taken, ((0, 0), (0, 0), (0, 0), (0, channels % 2)))
    return odd.reshape(layer.groups, len(places), -1, 2)


def saturating_layers(meters: list[SaturationMeter]) -> tuple[LayerSaturation, ...]:
    """The layers in which sums stopped, the worst first."""
    found = [one for one in (meter.result() for meter in meters) if one is not None]
    return tuple(sorted(found, key=lambda one: one.error, reverse=True))
