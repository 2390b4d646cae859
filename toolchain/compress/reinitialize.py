"""A net of the same shape with new random weights.

Knows how torch's own layers begin; a layer with weights that cannot begin anew is refused.
"""

from copy import deepcopy

import torch
from torch import nn

from toolchain.compress.step import CompressedModel
from toolchain.errors import RecipeError


def reinitialize(net: CompressedModel, seed: int) -> nn.Module:
    """A copy of net.module whose layers are initialized as torch does it, drawn from `seed`; what is sparse stays so.
    RecipeError for a layer that owns weights and has no reset_parameters()."""
    module = deepcopy(net.module)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for name, layer in module.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif list(layer.parameters(recurse=False)):
                raise RecipeError(
                    f"layer '{name}' ({type(layer).__name__}) cannot begin anew: it has weights and no "
                    "reset_parameters(); write one"
                )
    before = dict(net.module.named_parameters())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in net.sparse:
                parameter.masked_fill_(before[name] == 0, 0.0)
    return module
