"""Zero single weights at once, smallest first (Han et al. 2015), or two of every four (Mishra et al. 2021).

Trains nothing: follow it by finetune or distill, which leave the zeros at zero. Zeros save space where they are packed,
and time only on an engine with kernels for them: OpenVINO and ONNX Runtime have none for convolutions, TensorRT has for
"2:4" on GPUs from Ampere on. Channels cut later shift the groups of four: prune channels first.
"""

import logging
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.pruning.magnitude import (
    PrunableWeights,
    SparsityScope,
    ZeroMasks,
    apply_masks,
    check_sparsifiable,
    magnitude_masks,
    prunable_weights,
    two_of_four_masks,
    zero_fraction,
)
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.errors import RecipeError

logger = logging.getLogger(__name__)


class Sparsify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sparsity: share of the weights to zero. scope: the smallest of all layers together, or of each layer.

    pattern: "any" place, or "2:4": half of them, two in each four input channels; layers whose input channels are no
    multiple of four stay as they are. ignore: layers to leave alone, by name pattern. classifier: the last layer too.
    """

    sparsity: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    scope: SparsityScope = "global"
    pattern: Literal["any", "2:4"] = "any"
    ignore: tuple[str, ...] = ()
    classifier: bool = False

    def check(self, context: StepContext) -> None:  # noqa: ARG002
        """RecipeError for a share that the pattern does not have."""
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise RecipeError(f'sparsity = {self.sparsity:g} with pattern = "2:4", which zeroes half; remove sparsity')

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same zeroing: it needs no pictures."""
        return self._sparsify(net, context)[0]

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The net with zeros, which later training keeps; RecipeError when a layer would be emptied, when nothing would
        be zeroed, or when the net is quantized already."""
        self.check(context)
        after, weights, left_alone = self._sparsify(net, context)
        told = f"; left alone, input channels no multiple of 4: {', '.join(left_alone)}" if left_alone else ""
        count = sum(weight.numel() for weight in weights.values())
        logger.info(f"{zero_fraction(weights):.1%} of {count:,} weights in {len(weights)} layers are zero{told}")
        return after

    def _sparsify(
        self, net: CompressedModel, context: StepContext
    ) -> tuple[CompressedModel, PrunableWeights, list[str]]:
        """The net, the weights that were looked at, and those of them that the pattern does not fit."""
        check_sparsifiable(net)
        module = deepcopy(net.module)
        weights = prunable_weights(module, self.ignore, self.classifier, context.preprocessing)
        masks = (
            two_of_four_masks(weights) if self.pattern == "2:4" else magnitude_masks(weights, self.sparsity, self.scope)
        )
        before = zero_fraction(weights)
        self._check_masks(masks, weights, before)
        apply_masks(weights, masks)
        sparse = (*net.sparse, *(name for name in masks if name not in net.sparse))
        left_alone = [name for name in weights if name not in masks]
        return replace(net, module=module, sparse=sparse, history=()), weights, left_alone

    def _check_masks(self, masks: ZeroMasks, weights: PrunableWeights, before: float) -> None:
        if not masks:
            raise RecipeError('pattern = "2:4" fits no layer: none has input channels in multiples of 4; use "any"')
        if all(bool((weights[name][mask] == 0).all()) for name, mask in masks.items()):
            raise RecipeError(f"nothing would be zeroed: {before:.1%} of the weights are zero already; raise sparsity")
