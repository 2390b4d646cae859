"""Removes whole residual blocks, least important first (depth pruning; Veit et al. 2016 observed that many are
redundant).

Trains nothing: follow it with finetune or distill. Blocks are found and scored by pruning/blocks.py.
"""

import logging
from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.metrics import macs, parameter_count
from toolchain.compress.options import PositiveInt
from toolchain.compress.pruning.blocks import (
    BlockScores,
    block_influences,
    find_residual_blocks,
    removal_losses,
    remove_blocks,
)
from toolchain.compress.pruning.prunable import check_prunable
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import match_names
from toolchain.data import Split
from toolchain.errors import RecipeError

logger = logging.getLogger(__name__)

DRY_RUN_IMAGES = 16  # enough for a model of the right shape


class PruneBlocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """count: how many blocks to remove (default 1); ratio: alternatively, the fraction of removable blocks.

    importance: how much the loss on validation images rises without the block ("loss"), or how little the block changes
    its input ("influence", Men et al. 2024: faster, needs no labels). greedy: score the remaining blocks again after
    each removal, since blocks substitute for each other. ignore: blocks to keep, by name pattern. samples: validation
    images, at most.
    """

    count: PositiveInt | None = None
    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    importance: Literal["loss", "influence"] = "loss"
    greedy: bool = True
    ignore: tuple[str, ...] = ()
    samples: PositiveInt = 1000

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for both count and ratio, and for data without validation images."""
        if self.count is not None and self.ratio is not None:
            raise RecipeError(
                f"count = {self.count} and ratio = {self.ratio:g}: expected one of them; remove the other"
            )
        if not len(context.data.splits.get("validate", ())):
            raise RecipeError(
                f"data '{context.data.name}' has no validation images to score blocks with; choose data that has some"
            )

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same pruning, scored on few images: after training, or on all images, other blocks may be chosen."""
        return self._prune(model, context, min(self.samples, DRY_RUN_IMAGES))[0]

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The model with nn.Identity in place of the removed blocks; RecipeError when there are too few blocks, or the
        model is quantized already."""
        self.check(context)
        after, removed = self._prune(model, context, self.samples)
        before = parameter_count(model.module), macs(model.module, context.preprocessing)
        left = parameter_count(after.module), macs(after.module, context.preprocessing)
        logger.info(
            f"without {', '.join(f'{name} ({self.importance} {score:.4f})' for name, score in removed.items())}: "
            f"parameters {before[0]:,} -> {left[0]:,}, multiply-accumulates {before[1]:,} -> {left[1]:,} "
            f"({before[1] / left[1]:.2f} times fewer)"
        )
        return after

    def _prune(self, model: CompressedModel, context: StepContext, samples: int) -> tuple[CompressedModel, BlockScores]:
        check_prunable(model)
        blocks = self._removable_blocks(model, context)
        count, removed = self._block_count(blocks), BlockScores()
        split = _first_images(context.data.split("validate"), samples)
        scores: BlockScores = {}
        while len(removed) < count:
            left = [name for name in blocks if name not in removed]
            if self.greedy or not scores:
                measure = removal_losses if self.importance == "loss" else block_influences
                rest = remove_blocks(model.module, removed)
                scores = measure(rest, left, split, context.preprocessing, context.output)
            worst = min(left, key=scores.__getitem__)  # the first among equals
            removed[worst] = scores[worst]
        module = remove_blocks(model.module, removed)
        names = {name for name, _ in module.named_parameters()}
        sparse = tuple(name for name in model.sparse if name in names)
        return replace(model, module=module, sparse=sparse, history=()), removed

    def _removable_blocks(self, model: CompressedModel, context: StepContext) -> tuple[str, ...]:
        """The names of the blocks that may be removed."""
        blocks = find_residual_blocks(model.module, context.preprocessing)
        if not blocks:
            raise RecipeError(
                "the model has no removable residual block (none adds its input unchanged to what it "
                "computes); use prune_channels"
            )
        ignored = {name for pattern in self.ignore for name in match_names(pattern, list(blocks), "ignore")}
        return tuple(name for name in blocks if name not in ignored)

    def _block_count(self, blocks: tuple[str, ...]) -> int:
        count = self.count or 1
        if self.ratio is not None:
            count = max(1, round(self.ratio * len(blocks)))
        if count > len(blocks):
            names = ", ".join(blocks) or "all are ignored"
            raise RecipeError(f"count = {count}: expected at most {len(blocks)}, the removable blocks: {names}")
        return count


def _first_images(split: Split, samples: int) -> Split:
    """The first images; a folder's images are decoded on access, so only these are."""
    if len(split) <= samples:
        return split
    return Split(split.images[:samples], split.labels[:samples], split.indices[:samples])
