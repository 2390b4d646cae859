"""What the distillation steps share: their options, and a training assembled from student, loss and teachers."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from toolchain.compress.distillation.auxiliary import Peers, StudentWithFeatures
from toolchain.compress.distillation.teachers import Weighting, load_teachers, teacher_logits
from toolchain.compress.options import TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.freezing import parameter_groups
from toolchain.compress.training.head import find_head
from toolchain.compress.training.loop import LossFunction, Training, check_trainable, train, train_all_layers
from toolchain.compress.training.losses import (
    ModelOutput,
    choice_logits,
    classification_loss,
    distillation_kl,
    logits_of,
)
from toolchain.recipe import ModelSpec
from toolchain.records.output import SOFTMAX, OutputKind

TrainingHistory = tuple[dict[str, float], ...]
EpochCallback = Callable[[nn.Module, int], None]


class DistillationOptions(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """teachers: models as in [model]; none: the model as the recipe started from it, unpruned and unquantized."""

    teachers: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True)
class DistillationObjective:
    """module: the student, or a wrapper around it (auxiliary.py); teachers: part of the checkpoint's key; start_epoch:
    called at the start of each epoch."""

    module: nn.Module
    loss: LossFunction
    teachers: tuple[nn.Module, ...] = ()
    start_epoch: EpochCallback = train_all_layers


def load_step_teachers(
    options: DistillationOptions, context: StepContext, *, needs_features: bool = False
) -> tuple[nn.Module, ...]:
    """The teachers of a step's options, checked with smaller images where the student is trained on them; see
    load_teachers."""
    return load_teachers(
        options.teachers, context, needs_features=needs_features, small_images=options.small_epochs > 0
    )


def check_student(options: TrainingOptions, model: CompressedModel, context: StepContext) -> None:
    """Raise RecipeError for options that cannot work on this data, or a model that cannot be trained."""
    check_training(options, context)
    check_trainable(model)


def train_student(
    objective: DistillationObjective,
    model: CompressedModel,
    options: TrainingOptions,
    context: StepContext,
    seed: int | None = None,
) -> tuple[nn.Module, TrainingHistory]:
    """Train objective.module (the wrapper, where there is one); returns it and its history per epoch. Resumes from
    context.folder. seed: replaces the one of the options. ModelError when the loss is no longer finite."""
    module = objective.module
    prefix = "student." if isinstance(module, StudentWithFeatures | Peers) else ""
    head = f"{prefix}{find_head(module, context.preprocessing).name.removeprefix(prefix)}"
    return train(
        Training(
            module=module,
            options=options,
            context=context,
            seed=seed_of(options, context) if seed is None else seed,
            key=training_key(options, context, module, *objective.teachers),
            loss=objective.loss,
            parameter_groups=parameter_groups(module, head, options.weight_decay, 1.0),
            start_epoch=objective.start_epoch,
            sparse=tuple(f"{prefix}{name}" for name in model.sparse),
        )
    )


@dataclass(frozen=True)
class ResponseLoss:
    """alpha T^2 KL(teachers || student) + (1 - alpha) cross-entropy (Hinton et al. 2015). With alpha = 0 the teachers
    are not run. output: what the outputs of student and teachers say."""

    teachers: tuple[nn.Module, ...]
    alpha: float
    temperature: float
    label_smoothing: float
    weighting: Weighting = "average"
    output: OutputKind = SOFTMAX

    def __call__(self, answers: ModelOutput, images: Tensor, labels: Tensor) -> Tensor:
        hard = classification_loss(answers, labels, self.label_smoothing, self.output)
        if not self.alpha:
            return hard
        wanted = teacher_logits(self.teachers, images, self.weighting, self.output)
        soft = distillation_kl(choice_logits(logits_of(answers), self.output), wanted, self.temperature)
        return self.alpha * soft + (1 - self.alpha) * hard

    def of_model(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a training that has no other term."""
        return self(module(images), images, labels)
