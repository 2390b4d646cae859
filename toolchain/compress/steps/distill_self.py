"""Trains the model with auxiliary classifiers at the ends of its stages that learn from its final output (Zhang et al.
2019, Be Your Own Teacher).

The auxiliary classifiers (exits) are dropped after training.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import StudentWithFeatures
from toolchain.compress.distillation.features import FeatureLayer, find_layers, find_stage_ends
from toolchain.compress.distillation.layer_pairs import match_sizes
from toolchain.compress.distillation.training import DistillationObjective, check_student, train_student
from toolchain.compress.options import Fraction, NonNegative, Positive, TrainingOptions, check_training, seed_of
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.losses import choice_logits, classification_loss, distillation_kl, logits_of
from toolchain.errors import RecipeError
from toolchain.models.check import class_count
from toolchain.records.output import OutputKind


class DistillSelf(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """loss = cross-entropy of the model + exit_weight times, for each exit, (1 - alpha) cross-entropy + alpha T^2
    KL(model || exit, at `temperature` T) + hint_weight (mean squared difference from the deepest features).

    layers: where exits are attached, shallow to deep, the last one being the layer that they learn from; default: the
    ends of stages.
    """

    alpha: Fraction = 0.3
    temperature: Positive = 3.0
    hint_weight: NonNegative = 0.03
    exit_weight: NonNegative = 1.0
    layers: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)
        if len(self.layers) == 1:
            raise RecipeError(f"layers names only '{self.layers[0]}'; expected the exits' and the deepest, two or more")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, a layer does not exist, or there is only
        one stage."""
        check_student(self, model, context)
        self._stages(model, context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained model without its exits; resumes from context.folder. ModelError when the loss is no longer
        finite."""
        self.check(context)
        *exits, deepest = self._stages(model, context)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(self, context))
            outputs = class_count(model.module, context.preprocessing)
            beside = [Exit(early_exit, deepest, outputs) for early_exit in exits]
        module = StudentWithFeatures(deepcopy(model.module), [layer.name for layer in (*exits, deepest)], beside)
        wrapper, history = train_student(
            DistillationObjective(module, partial(self._loss, context.output)), model, self, context
        )
        return replace(model, module=wrapper.get_submodule("student"), history=history)

    def _stages(self, model: CompressedModel, context: StepContext) -> tuple[FeatureLayer, ...]:
        if self.layers:
            return find_layers(model.module, self.layers, context.preprocessing, "layers", "the model")
        stages = find_stage_ends(model.module, context.preprocessing, "the model")
        if len(stages) < 2:
            raise RecipeError(f"found only one stage in the model, {stages[0].name}; name the exits: layers = [...]")
        return stages

    def _loss(self, kind: OutputKind, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        output, exits = module(images), OutputKind(kind.activation, False)  # an exit returns logits
        total = classification_loss(output.output, labels, self.label_smoothing, kind)
        answers = choice_logits(logits_of(output.output).detach(), kind)
        for logits, maps in output.auxiliary:
            hard = classification_loss(logits, labels, self.label_smoothing, exits)
            soft = distillation_kl(choice_logits(logits, exits), answers, self.temperature)
            hint = functional.mse_loss(*match_sizes(maps.float(), output.features[-1].detach().float()))
            exit_loss = (1 - self.alpha) * hard + self.alpha * soft + self.hint_weight * hint
            total = total + self.exit_weight * exit_loss
        return total


class Exit(nn.Module):
    """Convolutions that reduce a feature map to the size and width of the deepest, then a classifier. Takes float32 [N,
    C, H, W]; returns logits [N, classes] and the reduced feature map."""

    def __init__(self, start: FeatureLayer, deepest: FeatureLayer, classes: int) -> None:
        super().__init__()
        halvings = max(1, round(math.log2(max(1.0, start.height / deepest.height))))
        strides = [2 if start.height > deepest.height else 1] * halvings
        self.maps = nn.Sequential(*_convolutions(start.channels, deepest.channels, strides))
        self.head = nn.Linear(deepest.channels, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(x)
        return self.head(maps.mean((2, 3))), maps


def _convolutions(width_in: int, width: int, strides: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for stride in strides:
        layers += [nn.Conv2d(width_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        width_in = width
    return layers
