"""Trains the model on a teacher's outputs with separate weights for the label's class and for the other classes (Zhao
et al. 2022, Decoupled Knowledge Distillation)."""

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
from toolchain.compress.training.losses import (
    choice_labels,
    choice_logits,
    classification_loss,
    decoupled_kl,
    logits_of,
)
from toolchain.errors import RecipeError
from toolchain.records.output import OutputKind


class DistillDecoupled(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = cross-entropy + w T^2 (alpha TCKD + beta NCKD); w rises to 1 over the first knowledge_warmup epochs.

    TCKD compares the probability of the label's class, NCKD the distribution over the other classes. weighting: how
    several teachers' logits are combined: "average", or "entropy" (per image, confident teachers count more).
    """

    temperature: Positive = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 2.0
    knowledge_warmup: NonNegative = 1.0
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data, or that mix images: the loss needs one label per
        image."""
        check_training(self, context)
        if mixing := [name for name in self.augment if name in ("mixup", "cutmix")]:
            raise RecipeError(f"augment {mixing[0]} gives images two labels, but the loss needs one; use distill")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_student(self, model, context)
        load_step_teachers(self, context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context)
        loss = _DecoupledLoss(self, move_teachers(teachers, training_device(), context.preprocessing), context.output)
        module, history = train_student(
            DistillationObjective(deepcopy(model.module), loss, teachers, loss.start_epoch), model, self, context
        )
        return replace(model, module=module, history=history)


@dataclass
class _DecoupledLoss:
    """The loss; its weight depends on the epoch, which start_epoch() sets."""

    options: DistillDecoupled
    teachers: tuple[nn.Module, ...]
    output: OutputKind
    weight: float = 1.0

    def start_epoch(self, module: nn.Module, epoch: int) -> None:
        train_all_layers(module, epoch)
        warmup = self.options.knowledge_warmup
        self.weight = min(1.0, (epoch + 1) / warmup) if warmup else 1.0

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        options, answers = self.options, module(images)
        wanted = teacher_logits(self.teachers, images, options.weighting, self.output)
        main = logits_of(answers)
        student, right = choice_logits(main, self.output), choice_labels(labels, main.shape[1], self.output)
        knowledge = decoupled_kl(student, wanted, right, options.alpha, options.beta, options.temperature)
        return classification_loss(answers, labels, options.label_smoothing, self.output) + self.weight * knowledge
