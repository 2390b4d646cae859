"""Trains the model to reproduce a teacher's intermediate features (Romero et al. 2015, FitNets: Hints for Thin Deep
Nets).

A 1x1 convolution per captured layer maps the student's channels to the teacher's; it is trained with the student and
dropped afterwards.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import StudentOutput, StudentWithFeatures
from toolchain.compress.distillation.features import capture_features
from toolchain.compress.distillation.layer_pairs import LayerPair, match_sizes, pair_layers, teacher_layer_names
from toolchain.compress.distillation.teachers import move_teachers
from toolchain.compress.distillation.training import (
    DistillationObjective,
    DistillationOptions,
    ResponseLoss,
    check_student,
    load_step_teachers,
    train_student,
)
from toolchain.compress.options import Fraction, NonNegative, Positive, check_training, seed_of
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.loop import train_all_layers, training_device
from toolchain.errors import RecipeError
from toolchain.records.output import OutputKind


class DistillHints(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = beta (mean squared difference from the teacher's features, averaged over layers) + the loss of `distill`
    (with alpha = 0, cross-entropy alone).

    hint_epochs: the first epochs train on the hints alone (the paper's first stage). layers, teacher_layers: layer
    names in the student and in the teacher; default: the ends of their stages. Losses of several teachers are averaged.
    """

    beta: NonNegative = 1.0
    alpha: Fraction = 0.0
    temperature: Positive = 4.0
    hint_epochs: int = 0
    layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)
        if not 0 <= self.hint_epochs < self.epochs:
            raise RecipeError(f"hint_epochs = {self.hint_epochs} of {self.epochs} epochs: expected fewer")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a teacher or layer does not fit."""
        check_student(self, model, context)
        self._layer_pairs(model, load_step_teachers(self, context, needs_features=True), context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student without its regressors; resumes from context.folder. ModelError when the loss is no
        longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context, needs_features=True)
        pairs = self._layer_pairs(model, teachers, context)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(self, context))
            regressors = [_regressor(pair) for pair in pairs]
        module = StudentWithFeatures(deepcopy(model.module), [pair.student_layer.name for pair in pairs], regressors)
        layers = teacher_layer_names(pairs, len(teachers))
        ready = move_teachers(teachers, training_device(), context.preprocessing)
        loss = _HintLoss(self, ready, layers, context.output)
        wrapper, history = train_student(
            DistillationObjective(module, loss, teachers, loss.start_epoch), model, self, context
        )
        return replace(model, module=wrapper.get_submodule("student"), history=history)

    def _layer_pairs(
        self, model: CompressedModel, teachers: tuple[nn.Module, ...], context: StepContext
    ) -> tuple[LayerPair, ...]:
        return pair_layers(model.module, teachers, self.layers, self.teacher_layers, context)


def _regressor(pair: LayerPair) -> nn.Module:
    return nn.Conv2d(pair.student_layer.channels, pair.teacher_layer.channels, 1)


@dataclass
class _HintLoss:
    """The loss; start_epoch() sets whether this epoch trains on hints alone."""

    options: DistillHints
    teachers: tuple[nn.Module, ...]
    layers: Sequence[Sequence[str]]
    output: OutputKind
    hints_only: bool = False

    def start_epoch(self, module: nn.Module, epoch: int) -> None:
        train_all_layers(module, epoch)
        self.hints_only = epoch < self.options.hint_epochs

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        options, answers = self.options, module(images)
        assert isinstance(answers, StudentOutput)
        hints = options.beta * hint_loss(answers.auxiliary, teacher_features(self.teachers, images, self.layers))
        if self.hints_only:
            return hints
        response = ResponseLoss(
            self.teachers, options.alpha, options.temperature, options.label_smoothing, output=self.output
        )
        return hints + response(answers.output, images, labels)


def teacher_features(
    teachers: Sequence[nn.Module], images: Tensor, layers: Sequence[Sequence[str]]
) -> tuple[Tensor, ...]:
    """The features of every teacher's layers, teacher by teacher, without gradients."""
    with torch.no_grad():
        maps = (capture_features(teacher, images, names)[1] for teacher, names in zip(teachers, layers, strict=True))
        return tuple(one for group in maps for one in group)


def hint_loss(student: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of regressed features [N, C, H, W] from the teacher's, averaged over the layers."""
    pairs = (match_sizes(mine.float(), other.float()) for mine, other in zip(student, teachers, strict=True))
    return torch.stack([functional.mse_loss(mine, other) for mine, other in pairs]).mean()
