"""Zeros that stay zeros while a net trains. Read off the weights, so that an interrupted training need not keep them.

Knows nothing of how they came to be (magnitude.py does).
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn


class SparsityMasks:
    """Where the parameters `names` of `module` are zero."""

    def __init__(self, module: nn.Module, names: Collection[str]) -> None:
        self.parameters = {name: parameter for name, parameter in module.named_parameters() if name in names}
        self.masks: dict[str, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Again: more of them are zero now."""
        self.masks = {name: parameter.detach() == 0 for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def apply(self, average: dict[str, Tensor]) -> None:
        """After a step: in the weights, and in their running average (empty: none), which would only come near."""
        for name, zero in self.masks.items():
            self.parameters[name].masked_fill_(zero, 0.0)
            if average:
                average[name].masked_fill_(zero, 0.0)
