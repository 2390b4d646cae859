"""Zeros single weights gradually during training (Zhu & Gupta 2018, To Prune, or Not to Prune).

The fraction of zeros rises as s(t) = s_end + (s_begin - s_end) (1 - t)^3, fast at first, while t runs from 0 to 1
between two epochs. The mask covers the currently smallest weights, and zeros stay zero; it is read from the weights, so
a checkpoint need not store it.
"""

import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Annotated

import msgspec
from torch import Tensor, nn

from toolchain.compress.options import Fraction, PositiveInt, TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.pruning.magnitude import (
    SparsityScope,
    apply_masks,
    magnitude_masks,
    prunable_weights,
    zero_fraction,
)
from toolchain.compress.pruning.prunable import check_sparsifiable
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import parameter_groups
from toolchain.compress.training.head import find_head
from toolchain.compress.training.loop import Training, check_trainable, train, train_all_layers
from toolchain.compress.training.losses import classification_loss
from toolchain.errors import RecipeError
from toolchain.records.output import OutputKind

logger = logging.getLogger(__name__)


class SparsifyGradually(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """sparsity: the final fraction of zero weights; initial_sparsity: the fraction after begin_epoch epochs.

    end_epoch: the final fraction is reached after this many epochs, and the remaining ones recover accuracy (None:
    after three quarters). every_steps: update the mask once in this many steps (None: once per epoch). scope, ignore
    and classifier: as in sparsify; the other options are those of every training.
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
        """Raise RecipeError for options that contradict each other, or cannot work on this data."""
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

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The final zeros, nothing trained; RecipeError when the model cannot be trained, or a layer would lose all its
        weights."""
        check_trainable(model)
        check_sparsifiable(model)
        module = deepcopy(model.module)
        weights = prunable_weights(module, self.ignore, self.classifier, context.preprocessing)
        apply_masks(weights, magnitude_masks(weights, self.sparsity, self.scope))
        return replace(model, module=module, sparse=_merge_names(model.sparse, tuple(weights)), history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained model with zeros, which later training keeps; resumes from context.folder. ModelError when the
        loss is no longer finite."""
        self.check(context)
        sparse = self.dry_run(model, context).sparse
        module = deepcopy(model.module)
        names = tuple(prunable_weights(module, self.ignore, self.classifier, context.preprocessing))
        training = Training(
            module=module,
            options=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module),
            loss=partial(self._loss, context.output),
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
        return replace(model, module=module, sparse=sparse, history=history)

    def _loss(self, output: OutputKind, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return classification_loss(module(images), labels, self.label_smoothing, output)

    @property
    def _end(self) -> int:
        return self.end_epoch or max(1, 3 * self.epochs // 4)

    def sparsity_at(self, done: int, epoch_steps: int) -> float | None:
        """The fraction to zero before the step after `done` steps; None when the mask is not updated then."""
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
