"""Train on, or transfer to other classes: replace the head, freeze and thaw, average the weights, keep the best.

Knows which options there are and how they become a training; the loop is training.py's.
"""

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

EpochKey = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]*$")]  # TOML's keys are text


class Finetune(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """freeze: "none", "backbone", or layer name patterns. unfreeze: which of these learn after how many epochs, as
    { 3 = ["layer4"], 6 = ["layer3"] } (gradual unfreezing, Howard & Ruder 2018); all learn after unfreeze_after epochs.
    backbone_lr_factor: of the head's rate. layer_lr_decay: each stage of layers towards the input learns at so much of
    the rate of the one after it (frozen.py says what a stage is). The other options are every training's (options.py).
    """

    replace_head: bool = False
    freeze: Literal["none", "backbone"] | tuple[str, ...] = "none"
    unfreeze: dict[EpochKey, tuple[str, ...]] = msgspec.field(default_factory=dict)
    unfreeze_after: PositiveInt | None = None
    backbone_lr_factor: NonNegative = 1.0
    layer_lr_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0

    def check(self, context: StepContext) -> None:
        """RecipeError for data without labelled training pictures, or options that contradict each other."""
        check_training(self, context)
        last = self.unfreeze_after or self.epochs
        for option, when in (("unfreeze_after", self.unfreeze_after), *(("unfreeze", int(at)) for at in self.unfreeze)):
            if when is not None and self.freeze == "none":
                raise RecipeError(f'{option} without freeze; say what is frozen: freeze = "backbone"')
            if when is not None and when >= self.epochs:
                raise RecipeError(f"{option} = {when} of {self.epochs} epochs: expected fewer")
            if option == "unfreeze" and when is not None and when >= last:
                raise RecipeError(f"unfreeze: after {when} epochs all learn already (unfreeze_after = {last})")

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The head replaced, nothing trained; RecipeError when classes or layer names do not fit."""
        check_trainable(net)
        module, classes = deepcopy(net.module), len(context.data.classes)
        found = class_count(module, context.preprocessing)
        if self.replace_head:
            with torch.random.fork_rng([]):
                torch.manual_seed(seed_of(self, context))
                module = attach_head(module, context.preprocessing, classes)
        elif found != classes:
            raise RecipeError(
                f"the model tells {found} classes apart, data '{context.data.name}' has {classes}; "
                "set replace_head = true"
            )
        self._frozen_by_epoch(module, find_head(module, context.preprocessing).name)
        return replace(net, module=module, history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained net; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        module = self.dry_run(net, context).module
        head = find_head(module, context.preprocessing).name
        training = Training(
            module=module,
            options=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module),
            loss=_loss(self.label_smoothing),
            parameter_groups=parameter_groups(
                module, head, self.weight_decay, self.backbone_lr_factor, self.layer_lr_decay
            ),
            start_epoch=self._start_epoch(self._frozen_by_epoch(module, head)),
            sparse=net.sparse,
        )
        module, history = train(training)
        return replace(net, module=module.requires_grad_(True), history=history)

    def _frozen_by_epoch(self, module: nn.Module, head: str) -> dict[int, frozenset[str]]:
        """What is frozen from which epoch on."""
        freeze: Freeze = self.freeze
        found = frozen_names_by_epoch(module, frozen_names(module, freeze, head), self.unfreeze)
        return found if self.unfreeze_after is None else {**found, self.unfreeze_after: frozenset()}

    def _start_epoch(self, frozen: dict[int, frozenset[str]]) -> Callable[[nn.Module, int], None]:
        def ready(module: nn.Module, epoch: int) -> None:
            set_trainable(module, frozen[max(since for since in frozen if since <= epoch)])

        return ready


def _loss(label_smoothing: float) -> LossFunction:
    def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return classification_loss(module(images), labels, label_smoothing)

    return loss
