"""Zero single weights little by little while training (Zhu & Gupta 2018, To prune, or not to prune).

The share of zeros rises by s(t) = s_end + (s_begin - s_end) (1 - t)^3, fast at first, where t runs from 0 to 1 between
two epochs. The mask is the smallest weights of the moment, and what is zero stays zero: it is read off the weights, so
that an interrupted training needs to remember nothing else.
"""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated

import msgspec
from torch import Tensor, nn

from toolchain.compress.options import Fraction, PositiveInt, TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.pruning.magnitude import (
    SparsityScope,
    apply_masks,
    check_sparsifiable,
    magnitude_masks,
    prunable_weights,
    zero_fraction,
)
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import parameter_groups
from toolchain.compress.training.head import find_head
from toolchain.compress.training.loop import Training, check_trainable, train, train_all_layers
from toolchain.compress.training.losses import classification_loss
from toolchain.errors import RecipeError

logger = logging.getLogger(__name__)


class SparsifyGradually(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """sparsity: share of the weights that are zero in the end; initial_sparsity: after begin_epoch epochs.

    end_epoch: after so many the share is reached, and the rest recovers (None: after three quarters). every_steps:
    weights are zeroed once in so many steps (None: once an epoch). scope, ignore and classifier as in sparsify; the
    other options are every training's.
    """

    sparsity: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.8
    initial_sparsity: Fraction = 0.0
    begin_epoch: Annotated[int, msgspec.Meta(ge=0)] = 0
    end_epoch: PositiveInt | None = None
    every_steps: PositiveInt | None = None
    scope: SparsityScope = "global"
    ignore: tuple[str, ...] = ()
    classifier: bool = False

    def check(self, context: StepContext) -> None:
        """RecipeError for options that contradict each other, or cannot work on this data."""
        check_training(self, context)
        if self.epochs < 2:
            raise RecipeError("epochs = 1: expected at least 2, so that the last one can recover; or use sparsify")
        if self.initial_sparsity >= self.sparsity:
            raise RecipeError(
                f"initial_sparsity = {self.initial_sparsity:g} of sparsity = {self.sparsity:g}: expected less"
            )
        if self._end >= self.epochs:
            raise RecipeError(f"end_epoch = {self._end} of {self.epochs} epochs: expected fewer, the rest recovers")
        if self.begin_epoch >= self._end:
            raise RecipeError(f"begin_epoch = {self.begin_epoch}, end_epoch = {self._end}: expected an earlier begin")

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The zeros of the end, nothing trained; RecipeError when the net cannot be trained, or a layer would be left
        without weights."""
        check_trainable(net)
        check_sparsifiable(net)
        module = deepcopy(net.module)
        weights = prunable_weights(module, self.ignore, self.classifier, context.preprocessing)
        apply_masks(weights, magnitude_masks(weights, self.sparsity, self.scope))
        return replace(net, module=module, sparse=_merge_names(net.sparse, tuple(weights)), history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained net with zeros, which later training keeps; resumes from context.folder. ModelError when the loss
        is no longer finite."""
        self.check(context)
        sparse = self.dry_run(net, context).sparse
        module = deepcopy(net.module)
        names = tuple(prunable_weights(module, self.ignore, self.classifier, context.preprocessing))
        training = Training(
            module=module,
            options=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module),
            loss=self._loss,
            parameter_groups=parameter_groups(
                module, find_head(module, context.preprocessing).name, self.weight_decay, 1.0
            ),
            start_epoch=train_all_layers,
            sparse=sparse,
            before_step=self._mask_schedule(names),
            best_from_epoch=self._end,
        )
        module, history = train(training)
        weights = {name: module.get_parameter(name) for name in names}
        logger.info(f"{zero_fraction(weights):.1%} of the weights in {len(names)} layers are zero")
        return replace(net, module=module, sparse=sparse, history=history)

    def _loss(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return classification_loss(module(images), labels, self.label_smoothing)

    @property
    def _end(self) -> int:
        return self.end_epoch or max(1, 3 * self.epochs // 4)

    def sparsity_at(self, done: int, epoch_steps: int) -> float | None:
        """The share to zero before the step after `done` steps; None where nothing is zeroed then."""
        begin, end = self.begin_epoch * epoch_steps, self._end * epoch_steps
        every = self.every_steps or epoch_steps
        if not begin <= done <= end or ((done - begin) % every and done != end):
            return None
        left = 1 - (done - begin) / (end - begin)
        return self.sparsity + (self.initial_sparsity - self.sparsity) * left**3

    def _mask_schedule(self, names: tuple[str, ...]) -> Callable[[nn.Module, int, int], bool]:
        def before_step(module: nn.Module, done: int, epoch_steps: int) -> bool:
            share = self.sparsity_at(done, epoch_steps)
            if share is None:
                return False
            weights = {name: module.get_parameter(name) for name in names}
            apply_masks(weights, magnitude_masks(weights, share, self.scope))
            return True

        return before_step


def _merge_names(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return (*first, *(name for name in second if name not in first))
