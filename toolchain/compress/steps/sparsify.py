"""Zeros single weights at once: the smallest in magnitude (Han et al. 2015), or two of every four (Mishra et al. 2021).

Trains nothing: follow it with finetune or distill, which keep the zeros. Zeros save space where they are packed, and
time only on an engine with sparse kernels: OpenVINO and ONNX Runtime have none for convolutions, TensorRT has them for
"2:4" on GPUs since Ampere. Pruning channels later would shift the groups of four: prune channels first.
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
    magnitude_masks,
    prunable_weights,
    two_of_four_masks,
    zero_fraction,
)
from toolchain.compress.pruning.prunable import check_sparsifiable
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.errors import RecipeError

logger = logging.getLogger(__name__)


class Sparsify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sparsity: fraction of the weights to zero. scope: rank the weights of all layers together ("global"), or in each
    layer ("layer").

    pattern: "any" position, or "2:4": two of every four input channels; layers whose input channels are not a multiple
    of four stay unchanged. ignore: layers to leave unchanged, by name pattern. classifier: include the last layer.
    """

    sparsity: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    scope: SparsityScope = "global"
    pattern: Literal["any", "2:4"] = "any"
    ignore: tuple[str, ...] = ()
    classifier: bool = False

    def check(self, context: StepContext) -> None:  # noqa: ARG002  # Step's signature
        """Raise RecipeError for a fraction that the pattern does not allow."""
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise RecipeError(f'sparsity = {self.sparsity:g} with pattern = "2:4", which zeroes half; remove sparsity')

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same as apply(): no images are needed."""
        return self._sparsify(model, context)[0]

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The model with zeros, which later training keeps; RecipeError when a layer would be emptied, when nothing
        would be zeroed, or when the model is quantized already."""
        self.check(context)
        after, weights, left_alone = self._sparsify(model, context)
        left_out = f"; left alone, input channels no multiple of 4: {', '.join(left_alone)}" if left_alone else ""
        count = sum(weight.numel() for weight in weights.values())
        logger.info(f"{zero_fraction(weights):.1%} of {count:,} weights in {len(weights)} layers are zero{left_out}")
        return after

    def _sparsify(
        self, model: CompressedModel, context: StepContext
    ) -> tuple[CompressedModel, PrunableWeights, list[str]]:
        """The sparse model, the weights considered, and the names of those that the pattern does not fit."""
        check_sparsifiable(model)
        module = deepcopy(model.module)
        weights = prunable_weights(module, self.ignore, self.classifier, context.preprocessing)
        masks = (
            two_of_four_masks(weights) if self.pattern == "2:4" else magnitude_masks(weights, self.sparsity, self.scope)
        )
        before = zero_fraction(weights)
        self._check_masks(masks, weights, before)
        apply_masks(weights, masks)
        sparse = (*model.sparse, *(name for name in masks if name not in model.sparse))
        left_alone = [name for name in weights if name not in masks]
        return replace(model, module=module, sparse=sparse, history=()), weights, left_alone

    def _check_masks(self, masks: ZeroMasks, weights: PrunableWeights, before: float) -> None:
        if not masks:
            raise RecipeError('pattern = "2:4" fits no layer: none has input channels in multiples of 4; use "any"')
        if all(bool((weights[name][mask] == 0).all()) for name, mask in masks.items()):
            raise RecipeError(f"nothing would be zeroed: {before:.1%} of the weights are zero already; raise sparsity")
