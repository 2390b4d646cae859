"""Learn how far pictures are from each other, and at what angles, in what a teacher makes of them (Park et al. 2019,
Relational Knowledge Distillation).

Compares the embeddings before the classifiers, which may be of different width. Knows the loss.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import Watched
from toolchain.compress.distillation.features import seen
from toolchain.compress.distillation.teachers import placed
from toolchain.compress.distillation.training import (
    Lesson,
    Response,
    TaughtOptions,
    check_lesson,
    teachers_for,
    trained,
)
from toolchain.compress.options import NotNegative, Positive, Share, check_training
from toolchain.compress.step import Context, Net
from toolchain.compress.training.head import head_of
from toolchain.compress.training.loop import Loss, accelerator
from toolchain.errors import RecipeError


class DistillRelation(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """loss = distance_weight RKD-D + angle_weight RKD-A + the answers' loss of `distill` (alpha = 0: labels alone).
    Several teachers' losses are averaged."""

    distance_weight: NotNegative = 1.0
    angle_weight: NotNegative = 2.0
    alpha: Share = 0.0
    temperature: Positive = 4.0

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)
        if self.batch_size < 3:
            raise RecipeError(f"batch_size = {self.batch_size}: an angle needs three pictures; expected 3 or more")

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained, a teacher does not fit, or has no classifier."""
        check_lesson(self, net, context)
        for one in (net.module, *teachers_for(self, context, inner=True)):
            head_of(one, context.preprocessing)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = teachers_for(self, context, inner=True)
        heads = [head_of(teacher, context.preprocessing).name for teacher in teachers]
        module = Watched(deepcopy(net.module), [head_of(net.module, context.preprocessing).name], side="input")
        wrapper, history = trained(Lesson(module, self._loss(teachers, heads), teachers), net, self, context)
        return replace(net, module=wrapper.get_submodule("student"), history=history)

    def _loss(self, teachers: tuple[nn.Module, ...], heads: Sequence[str]) -> Loss:
        ready = placed(teachers, accelerator())
        response = Response(ready, self.alpha, self.temperature, self.label_smoothing)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            found = module(images)
            total = response(found.answers, images, labels)
            mine = embedding(found.inner[0])
            for teacher, head in zip(ready, heads, strict=True):
                with torch.no_grad():
                    other = embedding(seen(teacher, images, [head], "input")[1][0])
                relation = self.distance_weight * distance_loss(mine, other)
                total = total + (relation + self.angle_weight * angle_loss(mine, other)) / len(ready)
            return total

        return loss


def embedding(given: Tensor) -> Tensor:
    """What a classifier is given, as vectors [N, D]; maps [N, C, H, W] are averaged over places."""
    return (given.mean((2, 3)) if given.ndim == 4 else given.flatten(1)).float()


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D: the Huber loss of all distances between pictures, each net's measured by its own mean distance."""
    return functional.smooth_l1_loss(_distances(student), _distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-A: the Huber loss of the cosines of the angles that all triplets of pictures make."""
    return functional.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _distances(vectors: Tensor) -> Tensor:
    squares = (vectors.unsqueeze(0) - vectors.unsqueeze(1)).pow(2).sum(2)
    distances = squares.clamp(min=1e-12).sqrt() * (squares > 0)  # the root has no slope at 0
    apart = distances[distances > 0]
    return distances / apart.mean() if len(apart) else distances


def _cosines(vectors: Tensor) -> Tensor:
    directions = functional.normalize(vectors.unsqueeze(0) - vectors.unsqueeze(1), dim=2)
    return torch.bmm(directions, directions.transpose(1, 2))
