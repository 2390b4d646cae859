"""Trains the model further, or transfers it to other classes with a new head, frozen layers and gradual unfreezing
(Howard & Ruder 2018)."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import torch
from torch import Tensor, nn

from toolchain.compress.options import NonNegative, PositiveInt, TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import (
    Freeze,
    frozen_names,
    frozen_names_by_epoch,
    parameter_groups,
    set_trainable,
)
from toolchain.compress.training.head import attach_head, find_head
from toolchain.compress.training.loop import LossFunction, Training, check_trainable, train
from toolchain.compress.training.losses import classification_loss
from toolchain.errors import RecipeError
from toolchain.models.check import class_count
from toolchain.models.output_kind import default_outputs
from toolchain.records.output import OutputKind

EpochKey = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]*$")]  # TOML keys are strings


class Finetune(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """freeze: "none", "backbone", or layer name patterns. unfreeze: which of them train after how many epochs, as { 3 =
    ["layer4"], 6 = ["layer3"] } (gradual unfreezing, Howard & Ruder 2018); all layers train after unfreeze_after
    epochs. backbone_lr_factor: relative to the head's learning rate. layer_lr_decay: factor between the learning rates
    of each stage of layers and the next one towards the output (freezing.py defines stages). All other options are
    those of every training (options.py)."""

    replace_head: bool = False
    freeze: Literal["none", "backbone"] | tuple[str, ...] = "none"
    unfreeze: dict[EpochKey, tuple[str, ...]] = msgspec.field(default_factory=dict)
    unfreeze_after: PositiveInt | None = None
    backbone_lr_factor: NonNegative = 1.0
    layer_lr_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for data without labelled training images, or options that contradict each other."""
        check_training(self, context)
        last = self.unfreeze_after or self.epochs
        for option, when in (("unfreeze_after", self.unfreeze_after), *(("unfreeze", int(at)) for at in self.unfreeze)):
            if when is not None and self.freeze == "none":
                raise RecipeError(f'{option} without freeze; name the frozen layers: freeze = "backbone"')
            if when is not None and when >= self.epochs:
                raise RecipeError(f"{option} = {when} of {self.epochs} epochs: expected fewer")
            if option == "unfreeze" and when is not None and when >= last:
                raise RecipeError(
                    f"unfreeze: after {when} epochs all layers are trained already (unfreeze_after = {last})"
                )

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """Replace the head, train nothing; RecipeError when class count or layer names do not fit."""
        check_trainable(model)
        module, classes = deepcopy(model.module), len(context.data.classes)
        count, activation = class_count(module, context.preprocessing), context.output.activation
        if self.replace_head:
            with torch.random.fork_rng([]):
                torch.manual_seed(seed_of(self, context))
                width = default_outputs(activation, classes, context.data.multilabel)
                module = attach_head(module, context.preprocessing, width)
        elif not context.output.fits(count, classes):
            raise RecipeError(
                f"the model has {count} classes, data '{context.data.name}' has {classes}; set replace_head = true"
            )
        self._frozen_by_epoch(module, find_head(module, context.preprocessing).name)
        return replace(model, module=module, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained model; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        module = self.dry_run(model, context).module
        head = find_head(module, context.preprocessing).name
        training = Training(
            module=module,
            options=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module),
            loss=_loss(self.label_smoothing, context.output),
            parameter_groups=parameter_groups(
                module, head, self.weight_decay, self.backbone_lr_factor, self.layer_lr_decay
            ),
            start_epoch=self._start_epoch(self._frozen_by_epoch(module, head)),
            sparse=model.sparse,
        )
        module, history = train(training)
        return replace(model, module=module.requires_grad_(True), history=history)

    def _frozen_by_epoch(self, module: nn.Module, head: str) -> dict[int, frozenset[str]]:
        """The frozen names from each epoch on."""
        freeze: Freeze = self.freeze
        frozen = frozen_names_by_epoch(module, frozen_names(module, freeze, head), self.unfreeze)
        return frozen if self.unfreeze_after is None else {**frozen, self.unfreeze_after: frozenset()}

    def _start_epoch(self, frozen: dict[int, frozenset[str]]) -> Callable[[nn.Module, int], None]:
        def ready(module: nn.Module, epoch: int) -> None:
            set_trainable(module, frozen[max(since for since in frozen if since <= epoch)])

        return ready


def _loss(label_smoothing: float, output: OutputKind) -> LossFunction:
    def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return classification_loss(module(images), labels, label_smoothing, output)

    return loss
