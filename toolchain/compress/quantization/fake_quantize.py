"""Numbers rounded to a grid of integers times a scale while training goes on: for activations and for weights.

Rounding passes gradients straight through (Bengio et al. 2013). Scales are learned step sizes (LSQ: Esser et al. 2020)
or follow running ranges (Jacob et al. 2018); one-bit weights are their sign times the mean magnitude of their output
channel (Rastegari et al. 2016, XNOR-Net). Zero is on every grid but the one-bit one. Knows nothing of layers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from toolchain.compress.quantization.lsq import round_to_grid

ACTIVATION_LEVELS = 255  # uint8
SYMMETRIC_ZERO = 128  # of uint8: with it, scale * (integer - 128) is just what int8 with a zero of 0 is
WEIGHT_RANGES = {8: (-127, 127), 4: (-8, 7), 2: (-2, 1)}  # 8 bits without -128, as every engine takes them
SMALLEST_SCALE = 1e-8
MOMENTUM = 0.01  # of running ranges
SCALE_SAMPLES = 2048  # weights of a channel that are looked at for its scale
RANGE_FRACTIONS = tuple(
    1 - step / 50 for step in range(40)
)  # shares of the largest weight that are tried as the range's end


class QuantizationGrid(NamedTuple):
    """Where numbers lie: scale * (integer - zero_point); scale and zero_point are [1], or [channels] of weights."""

    scale: Tensor
    zero_point: Tensor


class ActivationQuantizer(nn.Module):
    """float32 of any shape, rounded to 256 steps from about the smallest to about the largest seen; symmetric: as many
    steps below zero as above it, which TensorRT asks for, at the price of half of them after a ReLU."""

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
        with torch.autocast(x.device.type, enabled=False):  # half a mantissa has no room for 256 steps
            x = x.float()
            if self.training and not self.learned:
                self._observe(x, MOMENTUM)
            factor = 1 / math.sqrt(x[0].numel() * ACTIVATION_LEVELS)
            return round_to_grid(x, *self.grid(), ACTIVATION_LEVELS, factor)

    def grid(self) -> QuantizationGrid:
        """As it is used now; zero_point is a whole number 0..255."""
        if self.learned:
            return QuantizationGrid(self.scale.clamp_min(SMALLEST_SCALE), self.get_buffer("zero_point"))
        return self._grid_of_range()

    def finish_observing(self) -> None:
        """Observing is over: start from the range that was seen."""
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
        """Zero is always within the range: padding and ReLU's zeros are exact."""
        low, high = torch.aminmax(x.detach().float())
        self.get_buffer("low").lerp_(low.clamp_max(0).view(1), weight)
        self.get_buffer("high").lerp_(high.clamp_min(0).view(1), weight)


class WeightQuantizer(nn.Module):
    """Weights [outputs, ...] rounded to `bits`, symmetric, a scale for each output channel."""

    def __init__(self, weight: Tensor, bits: int, learned: bool) -> None:
        super().__init__()
        self.bits, self.learned = bits, learned and bits > 1
        if self.learned:
            self.scale = nn.Parameter(closest_scale(weight.detach(), bits))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            scale, zero_point = self.grid(weight)
            if self.bits == 1:
                binary = scale.view(-1, *[1] * (weight.ndim - 1)) * signs(weight)
                return binary.detach() + (weight - weight.detach())  # exactly binary, the gradient the weight's
            low, high = WEIGHT_RANGES[self.bits]
            if not self.learned:
                return torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), 0, low, high)
            factor = 1 / math.sqrt(weight[0].numel() * high)
            return torch._fake_quantize_learnable_per_channel_affine(weight, scale, zero_point, 0, low, high, factor)

    def grid(self, weight: Tensor) -> QuantizationGrid:
        """As it is used now for `weight`; zero_point is 0."""
        if self.learned:
            scale = self.scale.clamp_min(SMALLEST_SCALE)
        else:
            rows = weight.detach().abs().flatten(1)
            scale = rows.mean(1) if self.bits == 1 else rows.amax(1) / WEIGHT_RANGES[self.bits][1]
            scale = scale.clamp_min(SMALLEST_SCALE)
        return QuantizationGrid(scale, torch.zeros_like(scale))

    @torch.no_grad()
    def integers(self, weight: Tensor) -> Tensor:
        """int8, the shape of `weight`: what the scales are multiplied by; -1 and 1 at one bit."""
        if self.bits == 1:
            return signs(weight).to(torch.int8)
        scale, zero_point = self.grid(weight)
        near = torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), 0, *WEIGHT_RANGES[self.bits])
        return (near / scale.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)


def signs(weight: Tensor) -> Tensor:
    """-1 and 1; zero counts as positive."""
    return torch.where(weight < 0, -1.0, 1.0).to(weight)


def closest_scale(weight: Tensor, bits: int) -> Tensor:
    """[outputs]: for each channel the scale, of forty, whose grid is nearest to the weights in squared error. At 8 bits
    the largest weight's; of long channels some weights speak for all."""
    low, high = WEIGHT_RANGES[bits]
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
    """Quantizers below `module` let everything pass and note its range; after, they start from what they saw."""
    found = [layer for layer in module.modules() if isinstance(layer, ActivationQuantizer)]
    for layer in found:
        layer.observing, layer.seen = True, 0
    try:
        yield
    finally:
        for layer in found:
            layer.finish_observing()
