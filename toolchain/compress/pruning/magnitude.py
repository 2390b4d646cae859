"""Selects single weights to zero: the smallest in magnitude, over all layers or in each, or two of every four.

Ties are broken by position, so that equal weights give equal masks. Knows nothing of options or epochs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from toolchain.compress.training.freezing import match_names
from toolchain.compress.training.head import WeightLayer, find_head
from toolchain.errors import RecipeError
from toolchain.records.tensors import Preprocessing

SparsityScope = Literal["global", "layer"]
PrunableWeights = dict[str, nn.Parameter]  # by parameter name
ZeroMasks = dict[str, Tensor]  # bool, in the weight's shape: True is zeroed


def prunable_weights(
    module: nn.Module, ignore: Sequence[str], classifier: bool, preprocessing: Preprocessing
) -> PrunableWeights:
    """The weights of every convolution and linear layer, except those that `ignore` names, and the classifier unless
    `classifier` is true. RecipeError for a pattern that matches nothing, and when no layer is left."""
    names = [name for name, _ in module.named_modules() if name]
    layers = [name for name, layer in module.named_modules() if isinstance(layer, WeightLayer)]
    left_out = {name for pattern in ignore for name in match_names(pattern, names, "ignore")}
    if not classifier:
        left_out.add(find_head(module, preprocessing).name)
    weights = [f"{name}.weight".lstrip(".") for name in layers if name not in left_out]
    if not weights:
        raise RecipeError("no layer is left to make sparse: all are ignored, or the classifier")
    return {name: module.get_parameter(name) for name in weights}


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: float, scope: SparsityScope) -> ZeroMasks:
    """Masks of the fraction `sparsity` of the weights, rounded down, that is smallest in magnitude (Han et al. 2015);
    weights that are zero already come first. RecipeError when a layer would lose all its weights."""
    if scope == "layer":
        return {
            name: _smallest_mask(weight.detach().abs(), int(weight.numel() * sparsity))
            for name, weight in weights.items()
        }
    total = sum(weight.numel() for weight in weights.values())
    everything = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    parts = torch.split(
        _smallest_mask(everything, int(total * sparsity)), [weight.numel() for weight in weights.values()]
    )
    masks = {name: mask.view_as(weight) for (name, weight), mask in zip(weights.items(), parts, strict=True)}
    for name, mask in masks.items():
        if mask.all():
            raise RecipeError(
                f"sparsity = {sparsity:g} over all layers would zero all {mask.numel()} weights of {name}; "
                'lower sparsity, or set scope = "layer"'
            )
    return masks


def _smallest_mask(magnitudes: Tensor, count: int) -> Tensor:
    """True at exactly `count` of the smallest magnitudes; among equals, the first."""
    chosen = torch.zeros(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    if count:
        flat = magnitudes.flatten()
        threshold = flat.kthvalue(count).values
        chosen = flat < threshold
        level = (flat == threshold).nonzero().flatten()
        chosen[level[: count - int(chosen.sum())]] = True
    return chosen.view(magnitudes.shape)


def two_of_four_masks(weights: Mapping[str, Tensor]) -> ZeroMasks:
    """Masks of the two smallest of every four consecutive weights along the input channels, for each output channel and
    kernel position (Mishra et al. 2021): the pattern of NVIDIA's sparse tensor cores, for convolutions [out, in,
    height, width] and linear layers [out, in]. Covers only layers whose input channels are a multiple of four."""
    masks = {}
    for name, weight in weights.items():
        if weight.shape[1] % 4 == 0:
            last = weight.detach().abs().movedim(1, -1)
            order = last.reshape(-1, 4).argsort(dim=1, stable=True)
            mask = torch.zeros(order.shape, dtype=torch.bool, device=order.device).scatter_(1, order[:, :2], True)
            masks[name] = mask.view(last.shape).movedim(-1, 1)
    return masks


@torch.no_grad()
def apply_masks(weights: Mapping[str, nn.Parameter], masks: ZeroMasks) -> None:
    for name, mask in masks.items():
        weights[name].masked_fill_(mask, 0.0)


def zero_fraction(weights: Mapping[str, Tensor]) -> float:
    """The fraction of zeros among `weights`."""
    total = sum(weight.numel() for weight in weights.values())
    return math.fsum(int((weight == 0).sum()) for weight in weights.values()) / total
