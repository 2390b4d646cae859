"""Learn where a teacher looks: maps of channel energy at the ends of stages (Zagoruyko & Komodakis 2017, Paying More
Attention to Attention).

Needs no regressor: the maps have no channels. Knows the loss; which layers are paired is pairs.py's.
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


class DistillAttention(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = beta / 2 (squared difference of attention maps, the mean over places, summed over the layers) + the
    answers' loss of `distill` (alpha = 0: labels alone).

    beta: 1000 in the paper, over 200 epochs; in 12 that cost ResNet-8 more than 6 points, and 100 gained more than 5
    (docs/lab.md). layers, teacher_layers: names in the student and in the teacher; none: where their stages end.
    Several teachers' losses are averaged.
    """

    beta: NonNegative = 100.0
    alpha: Fraction = 0.0
    temperature: Positive = 4.0
    layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same net; RecipeError when it cannot be trained, a teacher does not fit, or a layer does not exist."""
        check_student(self, net, context)
        self._layer_pairs(net, load_step_teachers(self, context, needs_features=True), context)
        return replace(net, history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context, needs_features=True)
        pairs = self._layer_pairs(net, teachers, context)
        module = StudentWithFeatures(deepcopy(net.module), [pair.student_layer.name for pair in pairs])
        loss = self._loss(teachers, teacher_layer_names(pairs, len(teachers)))
        wrapper, history = train_student(DistillationObjective(module, loss, teachers), net, self, context)
        return replace(net, module=wrapper.get_submodule("student"), history=history)

    def _layer_pairs(
        self, net: CompressedModel, teachers: tuple[nn.Module, ...], context: StepContext
    ) -> tuple[LayerPair, ...]:
        return pair_layers(net.module, teachers, self.layers, self.teacher_layers, context)

    def _loss(self, teachers: tuple[nn.Module, ...], layers: Sequence[Sequence[str]]) -> LossFunction:
        ready = move_teachers(teachers, training_device())
        response = ResponseLoss(ready, self.alpha, self.temperature, self.label_smoothing)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            found = module(images)
            attention = attention_loss(found.features, teacher_features(ready, images, layers)) / len(ready)
            return self.beta / 2 * attention + response(found.output, images, labels)

        return loss


def attention_map(maps: Tensor) -> Tensor:
    """Where [N, C, H, W] has energy: the mean of squares over the channels, as vectors [N, H * W] of length 1."""
    return functional.normalize(maps.float().pow(2).mean(1).flatten(1))


def attention_loss(found: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of the attention maps, summed over the layers."""
    pairs = (match_sizes(mine, other) for mine, other in zip(found, teachers, strict=True))
    return torch.stack([functional.mse_loss(attention_map(mine), attention_map(other)) for mine, other in pairs]).sum()
