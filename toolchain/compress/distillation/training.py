"""What the distillation steps share: their options, and how a student, a loss and teachers become one training.

Knows no loss; the loop is training.py's, who teaches is teachers.py's.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from toolchain.compress.distillation.auxiliary import Peers, Watched
from toolchain.compress.distillation.teachers import Weighting, taught, teachers_of
from toolchain.compress.options import TrainingOptions, check_training, seed_of, training_key
from toolchain.compress.step import Context, Net
from toolchain.compress.training.freezing import parameter_groups
from toolchain.compress.training.head import head_of
from toolchain.compress.training.loop import Loss, Training, all_learning, check_trainable, train
from toolchain.compress.training.losses import Answers, labelled, logits_of, softened_kl
from toolchain.recipe import ModelSpec

History = tuple[dict[str, float], ...]
Ready = Callable[[nn.Module, int], None]


class TaughtOptions(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """teachers: models as in [model]; none: the net as the recipe started from it, unpruned and unquantized."""

    teachers: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """module: the student, or a wrapper that holds it (beside.py); teachers: named in the checkpoint's key; the
    loss asks them; ready: what an epoch begins with."""

    module: nn.Module
    loss: Loss
    teachers: tuple[nn.Module, ...] = ()
    ready: Ready = all_learning


def teachers_for(options: TaughtOptions, context: Context, *, inner: bool = False) -> tuple[nn.Module, ...]:
    """The options' teachers, shown smaller pictures where the student is; see teachers_of."""
    return teachers_of(options.teachers, context, inner=inner, small=options.small_epochs > 0)


def check_lesson(options: TrainingOptions, net: Net, context: Context) -> None:
    """RecipeError for options that cannot work on this data, or a net that cannot be trained."""
    check_training(options, context)
    check_trainable(net)


def trained(
    lesson: Lesson, net: Net, options: TrainingOptions, context: Context, seed: int | None = None
) -> tuple[nn.Module, History]:
    """lesson.module trained (the wrapper, where there is one) and what an epoch recorded; resumes from context.folder.
    seed: where it is not the options'. ModelError when the loss is no longer finite."""
    module = lesson.module
    prefix = "student." if isinstance(module, Watched | Peers) else ""
    head = f"{prefix}{head_of(module, context.preprocessing).name.removeprefix(prefix)}"
    return train(
        Training(
            module=module,
            plan=options,
            context=context,
            seed=seed_of(options, context) if seed is None else seed,
            key=training_key(options, context, module, *lesson.teachers),
            loss=lesson.loss,
            groups=parameter_groups(module, head, options.weight_decay, 1.0),
            ready=lesson.ready,
            sparse=tuple(f"{prefix}{name}" for name in net.sparse),
        )
    )


@dataclass(frozen=True)
class Response:
    """alpha T^2 KL(teachers || student) + (1 - alpha) cross-entropy (Hinton et al. 2015); the teachers are not asked
    when alpha is 0."""

    teachers: tuple[nn.Module, ...]
    alpha: float
    temperature: float
    label_smoothing: float
    weighting: Weighting = "average"

    def __call__(self, answers: Answers, images: Tensor, labels: Tensor) -> Tensor:
        hard = labelled(answers, labels, self.label_smoothing)
        if not self.alpha:
            return hard
        soft = softened_kl(logits_of(answers), taught(self.teachers, images, self.weighting), self.temperature)
        return self.alpha * soft + (1 - self.alpha) * hard

    def alone(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a training that has no other."""
        return self(module(images), images, labels)
