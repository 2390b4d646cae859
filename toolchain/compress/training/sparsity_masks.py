"""Keeps zero weights at zero during training. Masks are read from the weights, so checkpoints need not store them."""

from collections.abc import Collection

import torch
from torch import Tensor, nn


class SparsityMasks:
    """Masks of the zeros in the parameters `names` of `module`."""

    def __init__(self, module: nn.Module, names: Collection[str]) -> None:
        self.parameters = {name: parameter for name, parameter in module.named_parameters() if name in names}
        self.masks: dict[str, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the masks again after more weights were zeroed."""
        self.masks = {name: parameter.detach() == 0 for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def apply(self, average: dict[str, Tensor]) -> None:
        """Zero the masked weights after an optimizer step, and their moving average (empty: none), which would only
        approach zero."""
        for name, zero in self.masks.items():
            self.parameters[name].masked_fill_(zero, 0.0)
            if average:
                average[name].masked_fill_(zero, 0.0)
