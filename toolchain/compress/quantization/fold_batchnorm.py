"""Folds BatchNorms into the convolutions before them, so that training adapts what an integer engine computes.

Pairs are found by running the model: a BatchNorm whose input is a convolution's output. A normalization after anything
else (DenseNet's, after a concatenation) stays. Knows nothing of quantization.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluation_mode, temporary_hooks

FOLD_TOLERANCE = 1e-3  # relative to the largest output

FoldPair = tuple[nn.Conv2d, str]


def fold_batch_norms(module: nn.Module, image: Tensor) -> tuple[str, ...]:
    """Fold in place, with evaluation mode's statistics; returns the names of the BatchNorms that became Identity.
    RecipeError when the output changes (a convolution's own output is used elsewhere too)."""
    pairs = _find_pairs(module, image)
    with evaluation_mode(module), torch.no_grad():
        before = module(image)
        for convolution, name in pairs:
            norm = module.get_submodule(name)
            assert isinstance(norm, _BatchNorm)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            convolution.weight, convolution.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
            module.set_submodule(name, nn.Identity())
        after = module(image)
    if (after - before).abs().max() > FOLD_TOLERANCE * before.abs().max():
        raise RecipeError(
            "folding its BatchNorms into its convolutions changes this model's output: a convolution's own output is "
            "used elsewhere too; use quantize instead of qat"
        )
    return tuple(name for _, name in pairs)


def _find_pairs(module: nn.Module, image: Tensor) -> list[FoldPair]:
    """Each convolution and the name of the BatchNorm directly after it, where both run exactly once."""
    producers: dict[int, nn.Conv2d] = {}
    kept: list[Tensor] = []  # keeps tensors alive, since ids are reused
    pairs: list[FoldPair] = []
    runs: dict[nn.Module, int] = {}

    def convolved(layer: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        runs[layer] = runs.get(layer, 0) + 1
        if isinstance(layer, nn.Conv2d):
            producers[id(out)] = layer
            kept.append(out)

    def normalized(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        runs[layer] = runs.get(layer, 0) + 1
        if id(args[0]) in producers:
            pairs.append((producers[id(args[0])], names[layer]))

    names = {layer: name for name, layer in module.named_modules()}
    hooks = [layer.register_forward_hook(convolved) for layer in names if type(layer) is nn.Conv2d]
    hooks += [layer.register_forward_pre_hook(normalized) for layer in names if _is_foldable(layer)]
    with temporary_hooks(hooks), evaluation_mode(module), torch.no_grad():
        module(image)
    return [(layer, name) for layer, name in pairs if runs[layer] == 1 and runs[module.get_submodule(name)] == 1]


def _is_foldable(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
