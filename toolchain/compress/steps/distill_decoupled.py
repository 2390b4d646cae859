"""Learn from a teacher's answers, split into how sure it is of the label and how it ranks the rest (Zhao et al. 2022,
Decoupled Knowledge Distillation).

Knows the loss; who teaches is teachers.py's, the loop training.py's.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

from torch import Tensor, nn

from toolchain.compress.distillation.teachers import Weighting, move_teachers, teacher_logits
from toolchain.compress.distillation.training import (
    DistillationObjective,
    DistillationOptions,
    check_student,
    load_step_teachers,
    train_student,
)
from toolchain.compress.options import NonNegative, Positive, check_training
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.loop import train_all_layers, training_device
from toolchain.compress.training.losses import classification_loss, decoupled_kl, logits_of
from toolchain.errors import RecipeError


class DistillDecoupled(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = cross-entropy + w T^2 (alpha TCKD + beta NCKD); w rises to 1 over the first knowledge_warmup epochs.

    TCKD compares how probable the label's class is, NCKD how the other classes share what is left. weighting of several
    teachers' logits: "average", or "entropy": the confident count more, picture by picture.
    """

    temperature: Positive = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 2.0
    knowledge_warmup: NonNegative = 1.0
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """RecipeError for options that cannot work on this data, or mix pictures: each must have one label."""
        check_training(self, context)
        if mixing := [name for name in self.augment if name in ("mixup", "cutmix")]:
            raise RecipeError(f"augment {mixing[0]} gives pictures two labels, but the loss needs one; use distill")

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same net; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_student(self, net, context)
        load_step_teachers(self, context)
        return replace(net, history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context)
        loss = _DecoupledLoss(self, move_teachers(teachers, training_device()))
        module, history = train_student(
            DistillationObjective(deepcopy(net.module), loss, teachers, loss.start_epoch), net, self, context
        )
        return replace(net, module=module, history=history)


@dataclass
class _DecoupledLoss:
    """The loss, which knows the epoch: ready() is called before each."""

    options: DistillDecoupled
    teachers: tuple[nn.Module, ...]
    weight: float = 1.0

    def start_epoch(self, module: nn.Module, epoch: int) -> None:
        train_all_layers(module, epoch)
        warmup = self.options.knowledge_warmup
        self.weight = min(1.0, (epoch + 1) / warmup) if warmup else 1.0

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        options, answers = self.options, module(images)
        wanted = teacher_logits(self.teachers, images, options.weighting)
        knowledge = decoupled_kl(logits_of(answers), wanted, labels, options.alpha, options.beta, options.temperature)
        return classification_loss(answers, labels, options.label_smoothing) + self.weight * knowledge
