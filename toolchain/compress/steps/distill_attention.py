"""Trains the model to match a teacher's attention maps, the channel energy at the ends of stages (Zagoruyko & Komodakis
2017, Paying More Attention to Attention).

Needs no regressors, since attention maps have no channels.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import StudentWithFeatures
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
from toolchain.compress.options import Fraction, NonNegative, Positive, check_training
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.steps.distill_hints import teacher_features
from toolchain.compress.training.loop import LossFunction, training_device
from toolchain.records.output import OutputKind


class DistillAttention(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = beta / 2 (squared difference of attention maps, averaged over positions, summed over layers) + the loss of
    `distill` (with alpha = 0, cross-entropy alone).

    beta: 1000 in the paper, over 200 epochs; over 12 epochs that cost ResNet-8 more than 6 points, while 100 gained
    more than 5 (docs/lab.md). layers, teacher_layers: layer names in the student and in the teacher; default: the ends
    of their stages. Losses of several teachers are averaged.
    """

    beta: NonNegative = 100.0
    alpha: Fraction = 0.0
    temperature: Positive = 4.0
    layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a teacher or layer does not fit."""
        check_student(self, model, context)
        self._layer_pairs(model, load_step_teachers(self, context, needs_features=True), context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context, needs_features=True)
        pairs = self._layer_pairs(model, teachers, context)
        module = StudentWithFeatures(deepcopy(model.module), [pair.student_layer.name for pair in pairs])
        ready = move_teachers(teachers, training_device(), context.preprocessing)
        loss = self._loss(ready, teacher_layer_names(pairs, len(teachers)), context.output)
        wrapper, history = train_student(DistillationObjective(module, loss, teachers), model, self, context)
        return replace(model, module=wrapper.get_submodule("student"), history=history)

    def _layer_pairs(
        self, model: CompressedModel, teachers: tuple[nn.Module, ...], context: StepContext
    ) -> tuple[LayerPair, ...]:
        return pair_layers(model.module, teachers, self.layers, self.teacher_layers, context)

    def _loss(self, ready: tuple[nn.Module, ...], layers: Sequence[Sequence[str]], kind: OutputKind) -> LossFunction:
        response = ResponseLoss(ready, self.alpha, self.temperature, self.label_smoothing, output=kind)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            output = module(images)
            attention = attention_loss(output.features, teacher_features(ready, images, layers)) / len(ready)
            return self.beta / 2 * attention + response(output.output, images, labels)

        return loss


def attention_map(maps: Tensor) -> Tensor:
    """The energy of [N, C, H, W] per position: the mean of squares over the channels, as vectors [N, H * W] of length
    1."""
    return functional.normalize(maps.float().pow(2).mean(1).flatten(1))


def attention_loss(student: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of the attention maps, summed over the layers."""
    pairs = (match_sizes(mine, other) for mine, other in zip(student, teachers, strict=True))
    return torch.stack([functional.mse_loss(attention_map(mine), attention_map(other)) for mine, other in pairs]).sum()
