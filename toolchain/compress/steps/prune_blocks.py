"""Take out whole residual blocks, least important first (depth pruning; Veit et al. 2016 saw that many are not missed).

Trains nothing: follow it by finetune or distill. Which blocks can go, and how they are judged, is blocks.py's.
"""

import logging
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import torch

from toolchain.compress.metrics import macs, parameter_count
from toolchain.compress.options import PositiveInt
from toolchain.compress.pruning.blocks import (
    BlockScores,
    block_influences,
    find_residual_blocks,
    removal_losses,
    remove_blocks,
)
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import match_names
from toolchain.data import Split
from toolchain.errors import RecipeError
from toolchain.models.exported_program import ProgramModule

logger = logging.getLogger(__name__)


DRY_RUN_IMAGES = 16  # pictures: enough for a net of the right shape


class PruneBlocks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """count: blocks to take out (1 when nothing is said); ratio: instead, the share of those that can be.

    importance: how much the loss on validation pictures rises without the block ("loss"), or how little the block
    changes what it is given ("influence", Men et al. 2024: quicker, no labels). greedy: measure anew after each
    removal, since blocks stand in for each other. ignore: blocks to leave, by name pattern. samples: validation
    pictures, at most.
    """

    count: PositiveInt | None = None
    ratio: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    importance: Literal["loss", "influence"] = "loss"
    greedy: bool = True
    ignore: tuple[str, ...] = ()
    samples: PositiveInt = 1000

    def check(self, context: StepContext) -> None:
        """RecipeError for both count and ratio, and for data without validation pictures."""
        if self.count is not None and self.ratio is not None:
            raise RecipeError(
                f"count = {self.count} and ratio = {self.ratio:g}: expected one of them; remove the other"
            )
        if not len(context.data.splits.get("validate", ())):
            raise RecipeError(
                f"data '{context.data.name}' has no validation pictures to judge blocks by; choose data with some"
            )

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same, judged on few pictures: after training, or on all of them, other blocks may go."""
        return self._prune(net, context, min(self.samples, DRY_RUN_IMAGES))[0]

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The net with nn.Identity in the blocks' places; RecipeError when there are not so many blocks, or the net is
        quantized already."""
        self.check(context)
        after, removed = self._prune(net, context, self.samples)
        before = parameter_count(net.module), macs(net.module, context.preprocessing)
        left = parameter_count(after.module), macs(after.module, context.preprocessing)
        logger.info(
            f"without {', '.join(f'{name} ({self.importance} {score:.4f})' for name, score in removed.items())}: "
            f"parameters {before[0]:,} -> {left[0]:,}, multiply-accumulates {before[1]:,} -> {left[1]:,} "
            f"({before[1] / left[1]:.2f} times fewer)"
        )
        return after

    def _prune(self, net: CompressedModel, context: StepContext, samples: int) -> tuple[CompressedModel, BlockScores]:
        _check_prunable(net)
        blocks = self._removable_blocks(net, context)
        count, removed = self._block_count(blocks), BlockScores()
        part = _first_images(context.data.split("validate"), samples)
        scores: BlockScores = {}
        while len(removed) < count:
            left = [name for name in blocks if name not in removed]
            if self.greedy or not scores:
                measure = removal_losses if self.importance == "loss" else block_influences
                scores = measure(remove_blocks(net.module, removed), left, part, context.preprocessing)
            worst = min(left, key=scores.__getitem__)  # of equals the first
            removed[worst] = scores[worst]
        module = remove_blocks(net.module, removed)
        names = {name for name, _ in module.named_parameters()}
        sparse = tuple(name for name in net.sparse if name in names)
        return replace(net, module=module, sparse=sparse, history=()), removed

    def _removable_blocks(self, net: CompressedModel, context: StepContext) -> tuple[str, ...]:
        """Those that may go."""
        found = find_residual_blocks(net.module, context.preprocessing)
        if not found:
            raise RecipeError(
                "the model has no residual block that could be taken out (none hands on its input beside what it "
                "computes); use prune_channels"
            )
        ignored = {name for pattern in self.ignore for name in match_names(pattern, list(found), "ignore")}
        return tuple(name for name in found if name not in ignored)

    def _block_count(self, blocks: tuple[str, ...]) -> int:
        count = self.count or 1
        if self.ratio is not None:
            count = max(1, round(self.ratio * len(blocks)))
        if count > len(blocks):
            names = ", ".join(blocks) or "all are ignored"
            raise RecipeError(f"count = {count}: expected at most {len(blocks)}, that can be taken out: {names}")
        return count


def _check_prunable(net: CompressedModel) -> None:
    if net.quantization is not None or net.learned is not None:
        raise RecipeError("pruning after quantization would undo it; move it before quantize and qat")
    if isinstance(net.module, torch.fx.GraphModule | ProgramModule):
        raise RecipeError("an exported program cannot be pruned; give the model as path/file.py:function")


def _first_images(part: Split, samples: int) -> Split:
    """The first pictures; a folder of them is decoded when it is asked, so no more than these are."""
    if len(part) <= samples:
        return part
    return Split(part.images[:samples], part.labels[:samples], part.indices[:samples])
