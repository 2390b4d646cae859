"""Fake quantization: activations and weights are rounded to an integer grid times a scale during training.

Gradients pass straight through the rounding (Bengio et al. 2013). Scales are learned step sizes (LSQ: Esser et al.
2020) or follow running ranges (Jacob et al. 2018); one-bit weights are their sign times the mean magnitude of their
output channel (XNOR-Net: Rastegari et al. 2016). Zero is on every grid except the one-bit one. Knows nothing of layers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from toolchain.compress.quantization.lsq import round_to_grid

ACTIVATION_LEVELS = 255  # uint8
SYMMETRIC_ZERO = 128  # as uint8: scale * (integer - 128) equals int8 with zero_point 0
# 8 bits: two weights within -64..64, each times an activation of up to 255, fit 16 bits (records/saturation.py)
WEIGHT_RANGES = {8: (-64, 64), 4: (-8, 7), 2: (-2, 1)}
FULL_RANGE = (-127, 127)  # of 8 bits, without -128, as every engine accepts
SMALLEST_SCALE = 1e-8
MOMENTUM = 0.01  # of running ranges
SCALE_SAMPLES = 2048  # weights per channel used to choose its scale
RANGE_FRACTIONS = tuple(
    1 - step / 50 for step in range(40)
)  # fractions of the largest weight tried as the end of the range


class QuantizationGrid(NamedTuple):
    """The grid scale * (integer - zero_point); scale and zero_point are [1], or [channels] for weights."""

    scale: Tensor
    zero_point: Tensor


class ActivationQuantizer(nn.Module):
    """Rounds float32 tensors of any shape to 256 levels over the observed range. symmetric: the range is symmetric
    around zero, as TensorRT requires, which wastes half of the levels after a ReLU."""

    def __init__(self, learned: bool, symmetric: bool = False) -> None:
        super().__init__()
        self.learned, self.symmetric, self.observing, self.seen = learned, symmetric, False, 0
        for name in ("low", "high", "zero_point"):
            self.register_buffer(name, torch.zeros(1))
        if learned:
            self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self._observe(x, 1 / (self.seen + 1))
            self.seen += 1
            return x
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot represent 256 levels
            x = x.float()
            if self.training and not self.learned:
                self._observe(x, MOMENTUM)
            factor = 1 / math.sqrt(x[0].numel() * ACTIVATION_LEVELS)
            return round_to_grid(x, *self.grid(), ACTIVATION_LEVELS, factor)

    def grid(self) -> QuantizationGrid:
        """The current grid; zero_point is a whole number 0..255."""
        if self.learned:
            return QuantizationGrid(self.scale.clamp_min(SMALLEST_SCALE), self.get_buffer("zero_point"))
        return self._grid_of_range()

    def finish_observing(self) -> None:
        """Stop observing, and start from the observed range."""
        self.observing = False
        if self.learned:
            scale, zero_point = self._grid_of_range()
            with torch.no_grad():
                self.scale.copy_(scale)
                self.get_buffer("zero_point").copy_(zero_point)

    def _grid_of_range(self) -> QuantizationGrid:
        low, high = self.get_buffer("low"), self.get_buffer("high")
        if self.symmetric:
            scale = torch.maximum(-low, high) / (ACTIVATION_LEVELS - SYMMETRIC_ZERO)
            return QuantizationGrid(scale.clamp_min(SMALLEST_SCALE), torch.full_like(scale, SYMMETRIC_ZERO))
        scale = ((high - low) / ACTIVATION_LEVELS).clamp_min(SMALLEST_SCALE)
        return QuantizationGrid(scale, (-low / scale).round().clamp(0, ACTIVATION_LEVELS))

    @torch.no_grad()
    def _observe(self, x: Tensor, weight: float) -> None:
        """Update the range, which always contains zero: padding and ReLU's zeros are exact."""
        low, high = torch.aminmax(x.detach().float())
        self.get_buffer("low").lerp_(low.clamp_max(0).view(1), weight)
        self.get_buffer("high").lerp_(high.clamp_min(0).view(1), weight)


class WeightQuantizer(nn.Module):
    """Rounds weights [outputs, ...] to `bits` symmetrically, with one scale per output channel. full_range: 8 bits use
    all of them, which only engines with sums of 32 bits compute rightly."""

    def __init__(self, weight: Tensor, bits: int, learned: bool, full_range: bool = False) -> None:
        super().__init__()
        self.bits, self.learned = bits, learned and bits > 1
        self.ends = FULL_RANGE if bits == 8 and full_range else WEIGHT_RANGES.get(bits, (-1, 1))
        if self.learned:
            self.scale = nn.Parameter(closest_scale(weight.detach(), bits, self.ends))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            scale, zero_point = self.grid(weight)
            if self.bits == 1:
                binary = scale.view(-1, *[1] * (weight.ndim - 1)) * signs(weight)
                return binary.detach() + (weight - weight.detach())  # exactly binary, with the weight's gradient
            low, high = self.ends
            if not self.learned:
                return torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), 0, low, high)
            factor = 1 / math.sqrt(weight[0].numel() * high)
            return torch._fake_quantize_learnable_per_channel_affine(weight, scale, zero_point, 0, low, high, factor)

    def grid(self, weight: Tensor) -> QuantizationGrid:
        """The current grid for `weight`; zero_point is 0."""
        if self.learned:
            scale = self.scale.clamp_min(SMALLEST_SCALE)
        else:
            rows = weight.detach().abs().flatten(1)
            scale = rows.mean(1) if self.bits == 1 else rows.amax(1) / self.ends[1]
            scale = scale.clamp_min(SMALLEST_SCALE)
        return QuantizationGrid(scale, torch.zeros_like(scale))

    @torch.no_grad()
    def integers(self, weight: Tensor) -> Tensor:
        """int8 in the shape of `weight`: the integers that the scales multiply; -1 and 1 at one bit."""
        if self.bits == 1:
            return signs(weight).to(torch.int8)
        scale, zero_point = self.grid(weight)
        near = torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), 0, *self.ends)
        return (near / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)


def signs(weight: Tensor) -> Tensor:
    """-1 and 1; zero counts as positive."""
    return torch.where(weight < 0, -1.0, 1.0).to(weight)


def closest_scale(weight: Tensor, bits: int, ends: tuple[int, int]) -> Tensor:
    """[outputs]: per channel, the scale out of forty whose grid has the smallest squared error. At 8 bits the scale of
    the largest weight; for long channels the error is estimated on a subset of the weights."""
    low, high = ends
    rows = weight.flatten(1)
    largest = rows.abs().amax(1).clamp_min(SMALLEST_SCALE) / high
    if bits == 8:
        return largest
    rows = rows[:, :: max(1, rows.shape[1] // SCALE_SAMPLES)]
    best, least = largest.clone(), torch.full_like(largest, math.inf)
    for share in RANGE_FRACTIONS:
        scale = (largest * share).unsqueeze(1)
        error = (rows.div(scale).round_().clamp_(low, high).mul_(scale) - rows).square_().sum(1)
        best = torch.where(error < least, scale.squeeze(1), best)
        least = torch.minimum(error, least)
    return best


@contextmanager
def observe_ranges(module: nn.Module) -> Iterator[None]:
    """Quantizers below `module` pass activations through unchanged and record their ranges, from which they start
    afterwards."""
    quantizers = [layer for layer in module.modules() if isinstance(layer, ActivationQuantizer)]
    for layer in quantizers:
        layer.observing, layer.seen = True, 0
    try:
        yield
    finally:
        for layer in quantizers:
            layer.finish_observing()
