"""Trains the model to reproduce the distances and angles between images in a teacher's embedding (Park et al. 2019,
Relational Knowledge Distillation).

Compares the classifiers' inputs, which may differ in width.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import StudentWithFeatures
from toolchain.compress.distillation.features import capture_features
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
from toolchain.compress.training.head import find_head
from toolchain.compress.training.loop import LossFunction, training_device
from toolchain.errors import RecipeError
from toolchain.records.output import OutputKind


class DistillRelation(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = distance_weight RKD-D + angle_weight RKD-A + the loss of `distill` (with alpha = 0, cross-entropy alone).
    Losses of several teachers are averaged."""

    distance_weight: NonNegative = 1.0
    angle_weight: NonNegative = 2.0
    alpha: Fraction = 0.0
    temperature: Positive = 4.0

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)
        if self.batch_size < 3:
            raise RecipeError(f"batch_size = {self.batch_size}: an angle needs three images; expected 3 or more")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a teacher does not fit or has no
        classifier."""
        check_student(self, model, context)
        for network in (model.module, *load_step_teachers(self, context, needs_features=True)):
            find_head(network, context.preprocessing)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context, needs_features=True)
        heads = [find_head(teacher, context.preprocessing).name for teacher in teachers]
        module = StudentWithFeatures(
            deepcopy(model.module), [find_head(model.module, context.preprocessing).name], side="input"
        )
        ready = move_teachers(teachers, training_device(), context.preprocessing)
        wrapper, history = train_student(
            DistillationObjective(module, self._loss(ready, heads, context.output), teachers), model, self, context
        )
        return replace(model, module=wrapper.get_submodule("student"), history=history)

    def _loss(self, ready: tuple[nn.Module, ...], heads: Sequence[str], kind: OutputKind) -> LossFunction:
        response = ResponseLoss(ready, self.alpha, self.temperature, self.label_smoothing, output=kind)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            output = module(images)
            total = response(output.output, images, labels)
            mine = embedding(output.features[0])
            for teacher, head in zip(ready, heads, strict=True):
                with torch.no_grad():
                    other = embedding(capture_features(teacher, images, [head], "input")[1][0])
                relation = self.distance_weight * distance_loss(mine, other)
                total = total + (relation + self.angle_weight * angle_loss(mine, other)) / len(ready)
            return total

        return loss


def embedding(features: Tensor) -> Tensor:
    """A classifier's input as vectors [N, D]; feature maps [N, C, H, W] are averaged over positions."""
    return (features.mean((2, 3)) if features.ndim == 4 else features.flatten(1)).float()


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D: the Huber loss of all pairwise distances, each model's relative to its own mean distance."""
    return functional.smooth_l1_loss(_distances(student), _distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-A: the Huber loss of the cosines of the angles in all triplets of images."""
    return functional.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _distances(vectors: Tensor) -> Tensor:
    squares = (vectors.unsqueeze(0) - vectors.unsqueeze(1)).pow(2).sum(2)
    distances = squares.clamp(min=1e-12).sqrt() * (squares > 0)  # the gradient of the square root is infinite at 0
    apart = distances[distances > 0]
    return distances / apart.mean() if len(apart) else distances


def _cosines(vectors: Tensor) -> Tensor:
    directions = functional.normalize(vectors.unsqueeze(0) - vectors.unsqueeze(1), dim=2)
    return torch.bmm(directions, directions.transpose(1, 2))
