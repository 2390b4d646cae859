"""Rounding to a grid with gradients for the values and for the scale (LSQ: Esser et al. 2020, Learned step size).

torch's own kernels for it (_fake_quantize_learnable_*) process values one by one: on a CPU ten times slower than this,
which would make quantizers more expensive than the convolutions (docs/lab.md).
"""

from typing import Any

import torch
from torch import Tensor


def round_to_grid(x: Tensor, scale: Tensor, zero_point: Tensor, largest: int, factor: float) -> Tensor:
    """x, of any shape, rounded to the grid scale * (0..largest - zero_point); scale and zero_point are [1]. The
    gradient of x passes straight through within the grid's range; that of scale is multiplied by `factor`."""
    if x.is_cuda:  # the kernel is fast there, and no values are copied to the host
        rounded: Tensor = torch._fake_quantize_learnable_per_tensor_affine(x, scale, zero_point, 0, largest, factor)
        return rounded
    offset = float(zero_point)
    through: Tensor = _RoundToGrid.apply(x, scale, -offset, largest - offset, factor)
    return through


class _RoundToGrid(torch.autograd.Function):
    """The backward pass needs only input and output: passes over memory dominate the cost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float, factor: float) -> Tensor:
        step = float(scale)
        rounded = x.div(step).round_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(x, rounded)
        ctx.grid = step, low, high, factor
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, rounded = ctx.saved_tensors
        step, low, high, factor = ctx.grid
        [gradient] = gradients
        inside = torch.ops.aten.hardtanh_backward(gradient, x, (low - 0.5) * step, (high + 0.5) * step)
        of_scale = None
        if ctx.needs_input_grad[1]:
            # d made / d scale: (made - x) / scale within the range, made / scale outside
            of_scale = ((_dot(gradient, rounded) - _dot(inside, x)) * (factor / step)).view(1)
        return inside, of_scale, None, None, None


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The sum of products; by BLAS, without a copy, where both have the same dense memory layout."""
    dense = left.is_contiguous() or left.is_contiguous(memory_format=torch.channels_last)
    if dense and left.stride() == right.stride():
        return torch.dot(*(side.as_strided((side.numel(),), (1,), side.storage_offset()) for side in (left, right)))
    return (left * right).sum()
