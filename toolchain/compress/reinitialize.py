"""A copy of a model with new random weights, by torch's own initialization of each layer."""

from copy import deepcopy

import torch
from torch import nn

from toolchain.compress.step import CompressedModel
from toolchain.errors import RecipeError


def reinitialize(model: CompressedModel, seed: int) -> nn.Module:
    """A copy of model.module with layers initialized as torch does, from `seed`; sparse weights keep their zeros.
    RecipeError for a layer that owns weights and has no reset_parameters()."""
    module = deepcopy(model.module)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for name, layer in module.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif list(layer.parameters(recurse=False)):
                raise RecipeError(
                    f"layer '{name}' ({type(layer).__name__}) cannot be reinitialized: it has weights and no "
                    "reset_parameters(); write one"
                )
    before = dict(model.module.named_parameters())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in model.sparse:
                parameter.masked_fill_(before[name] == 0, 0.0)
    return module
