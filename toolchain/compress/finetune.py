"""Train on, or transfer to other classes: replace the head, freeze and thaw, average the weights, keep the best.

Knows which options there are and how they become a training; the loop is training.py's.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.frozen import frozen_names, parameter_groups, set_learning
from toolchain.compress.head import head_of, with_head
from toolchain.compress.saved import weights_digest
from toolchain.compress.step import Context, Net
from toolchain.compress.training import Loss, Training, train
from toolchain.errors import RecipeError
from toolchain.models.check import classes_of
from toolchain.models.program import Program
from toolchain.records.files import encoded

AUXILIARY_WEIGHT = 0.3  # of an auxiliary classifier's loss (Szegedy et al. 2015)

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Finetune(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SGD with a one-cycle schedule (Smith 2018) on the data's train part.

    lr falls to lr_end by `schedule` after warmup_epochs of rising. freeze: "none", "backbone", or layer name patterns;
    all learn again after unfreeze_after epochs. backbone_lr_factor: of the head's rate. augment: "flip", "crop".
    ema_decay: keep a running average of the weights and use that. keep_best: the epoch best on the validate part, never
    on test. seed: None takes the build's.
    """

    epochs: Annotated[int, msgspec.Meta(ge=1)] = 10
    lr: Positive = 0.02
    lr_end: NotNegative = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_epochs: NotNegative = 0.0
    batch_size: Annotated[int, msgspec.Meta(ge=1)] = 128
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 5e-4
    label_smoothing: Share = 0.0
    augment: tuple[Literal["flip", "crop"], ...] = ("flip", "crop")
    replace_head: bool = False
    freeze: Literal["none", "backbone"] | tuple[str, ...] = "none"
    unfreeze_after: Annotated[int, msgspec.Meta(ge=1)] | None = None
    backbone_lr_factor: NotNegative = 1.0
    ema_decay: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    keep_best: bool = True
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def check(self, context: Context) -> None:
        """RecipeError for data without labelled training pictures, or options that contradict each other."""
        data = context.data
        if "train" not in data.parts or not len(data.part("train")):
            raise RecipeError(f"data '{data.name}' has no training pictures; choose data with a train part")
        if self.warmup_epochs >= self.epochs:
            raise RecipeError(f"warmup_epochs = {self.warmup_epochs:g} of {self.epochs} epochs: expected fewer")
        if self.lr_end > self.lr:
            raise RecipeError(f"lr_end = {self.lr_end:g} is above lr = {self.lr:g}; expected at most lr")
        if self.nesterov and not self.momentum:
            raise RecipeError("nesterov needs momentum above 0; set nesterov = false")
        if self.unfreeze_after is not None and self.freeze == "none":
            raise RecipeError('unfreeze_after without freeze; say what is frozen: freeze = "backbone"')
        if self.unfreeze_after is not None and self.unfreeze_after >= self.epochs:
            raise RecipeError(f"unfreeze_after = {self.unfreeze_after} of {self.epochs} epochs: expected fewer")

    def rehearse(self, net: Net, context: Context) -> Net:
        """The head replaced, nothing trained; RecipeError when classes or layer names do not fit."""
        if net.quantization is not None:
            raise RecipeError("training after quantize would undo it; move quantize to the end")
        if isinstance(net.module, torch.fx.GraphModule | Program):
            raise RecipeError("an exported program cannot be trained; give the model as path/file.py:function")
        module, classes = deepcopy(net.module), len(context.data.classes)
        found = classes_of(module, context.preprocessing)
        if self.replace_head:
            with torch.random.fork_rng([]):
                torch.manual_seed(self._seed(context))
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
            seed=self._seed(context),
            key=self._key(module, context),
            loss=cross_entropy(self.label_smoothing),
            groups=parameter_groups(module, head, self.weight_decay, self.backbone_lr_factor),
            ready=self._ready(frozen_names(module, self.freeze, head)),
        )
        module, history = train(training)
        return replace(net, module=module.requires_grad_(True), history=history)

    def _ready(self, frozen: frozenset[str]) -> Callable[[nn.Module, int], None]:
        def ready(module: nn.Module, epoch: int) -> None:
            thawed = self.unfreeze_after is not None and epoch >= self.unfreeze_after
            set_learning(module, frozenset() if thawed else frozen)

        return ready

    def _seed(self, context: Context) -> int:
        return context.seed if self.seed is None else self.seed

    def _key(self, module: nn.Module, context: Context) -> str:
        """Names everything that decides the weights, so that a checkpoint of other options or data is not taken up."""
        parts = [self, self._seed(context), context.data.sha256, context.preprocessing, weights_digest(module)]
        return sha256(b"".join(encoded(part) for part in parts)).hexdigest()


def cross_entropy(label_smoothing: float) -> Loss:
    """Cross-entropy on logits; auxiliary classifiers, where a network has them in training, count three tenths."""

    def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        answers = module(images)
        main, *others = answers if isinstance(answers, tuple) else (answers,)
        total = functional.cross_entropy(main, labels, label_smoothing=label_smoothing)
        for answer in others:
            if answer is not None:
                total = total + AUXILIARY_WEIGHT * functional.cross_entropy(answer, labels)
        return total

    return loss
