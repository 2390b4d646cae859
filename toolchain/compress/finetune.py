"""Train on, or transfer to other classes: replace the head, freeze and thaw, average the weights, keep the best.

Knows which options there are and how they become a training; the loop is training.py's.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from toolchain.compress.frozen import frozen_names, parameter_groups, set_learning
from toolchain.compress.head import head_of, with_head
from toolchain.compress.losses import labelled
from toolchain.compress.options import Count, NotNegative, TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.step import Context, Net
from toolchain.compress.training import Loss, Training, check_trainable, train
from toolchain.errors import RecipeError
from toolchain.models.check import classes_of


class Finetune(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """freeze: "none", "backbone", or layer name patterns; all learn again after unfreeze_after epochs.
    backbone_lr_factor: of the head's rate. The other options are every training's (options.py)."""

    replace_head: bool = False
    freeze: Literal["none", "backbone"] | tuple[str, ...] = "none"
    unfreeze_after: Count | None = None
    backbone_lr_factor: NotNegative = 1.0

    def check(self, context: Context) -> None:
        """RecipeError for data without labelled training pictures, or options that contradict each other."""
        check_training(self, context)
        if self.unfreeze_after is not None and self.freeze == "none":
            raise RecipeError('unfreeze_after without freeze; say what is frozen: freeze = "backbone"')
        if self.unfreeze_after is not None and self.unfreeze_after >= self.epochs:
            raise RecipeError(f"unfreeze_after = {self.unfreeze_after} of {self.epochs} epochs: expected fewer")

    def rehearse(self, net: Net, context: Context) -> Net:
        """The head replaced, nothing trained; RecipeError when classes or layer names do not fit."""
        check_trainable(net)
        module, classes = deepcopy(net.module), len(context.data.classes)
        found = classes_of(module, context.preprocessing)
        if self.replace_head:
            with torch.random.fork_rng([]):
                torch.manual_seed(seed_of(self, context))
                module = with_head(module, context.preprocessing, classes)
        elif found != classes:
            raise RecipeError(
                f"the model tells {found} classes apart, data '{context.data.name}' has {classes}; "
                "set replace_head = true"
            )
        frozen_names(module, self.freeze, head_of(module, context.preprocessing).name)
        return replace(net, module=module, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained net; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        module = self.rehearse(net, context).module
        head = head_of(module, context.preprocessing).name
        training = Training(
            module=module,
            plan=self,
            context=context,
            seed=seed_of(self, context),
            key=training_key(self, context, module),
            loss=_loss(self.label_smoothing),
            groups=parameter_groups(module, head, self.weight_decay, self.backbone_lr_factor),
            ready=self._ready(frozen_names(module, self.freeze, head)),
            sparse=net.sparse,
        )
        module, history = train(training)
        return replace(net, module=module.requires_grad_(True), history=history)

    def _ready(self, frozen: frozenset[str]) -> Callable[[nn.Module, int], None]:
        def ready(module: nn.Module, epoch: int) -> None:
            thawed = self.unfreeze_after is not None and epoch >= self.unfreeze_after
            set_learning(module, frozenset() if thawed else frozen)

        return ready


def _loss(label_smoothing: float) -> Loss:
    def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return labelled(module(images), labels, label_smoothing)

    return loss
