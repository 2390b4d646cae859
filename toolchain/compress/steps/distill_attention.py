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

from toolchain.compress.distillation.auxiliary import Watched
from toolchain.compress.distillation.layer_pairs import Pair, alike, layers_by_teacher, pairs_of
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
from toolchain.compress.steps.distill_hints import wanted
from toolchain.compress.training.loop import Loss, accelerator


class DistillAttention(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """loss = beta / 2 (squared difference of attention maps, the mean over places, summed over the layers) + the
    answers' loss of `distill` (alpha = 0: labels alone).

    beta: 1000 in the paper, over 200 epochs; in 12 that cost ResNet-8 more than 6 points, and 100 gained more than 5
    (docs/lab.md). layers, teacher_layers: names in the student and in the teacher; none: where their stages end.
    Several teachers' losses are averaged.
    """

    beta: NotNegative = 100.0
    alpha: Share = 0.0
    temperature: Positive = 4.0
    layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained, a teacher does not fit, or a layer does not exist."""
        check_lesson(self, net, context)
        self._pairs(net, teachers_for(self, context, inner=True), context)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = teachers_for(self, context, inner=True)
        pairs = self._pairs(net, teachers, context)
        module = Watched(deepcopy(net.module), [pair.student_layer.name for pair in pairs])
        loss = self._loss(teachers, layers_by_teacher(pairs, len(teachers)))
        wrapper, history = trained(Lesson(module, loss, teachers), net, self, context)
        return replace(net, module=wrapper.get_submodule("student"), history=history)

    def _pairs(self, net: Net, teachers: tuple[nn.Module, ...], context: Context) -> tuple[Pair, ...]:
        return pairs_of(net.module, teachers, self.layers, self.teacher_layers, context)

    def _loss(self, teachers: tuple[nn.Module, ...], layers: Sequence[Sequence[str]]) -> Loss:
        ready = placed(teachers, accelerator())
        response = Response(ready, self.alpha, self.temperature, self.label_smoothing)

        def loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            found = module(images)
            attention = attention_loss(found.inner, wanted(ready, images, layers)) / len(ready)
            return self.beta / 2 * attention + response(found.answers, images, labels)

        return loss


def attention_map(maps: Tensor) -> Tensor:
    """Where [N, C, H, W] has energy: the mean of squares over the channels, as vectors [N, H * W] of length 1."""
    return functional.normalize(maps.float().pow(2).mean(1).flatten(1))


def attention_loss(found: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of the attention maps, summed over the layers."""
    pairs = (alike(mine, other) for mine, other in zip(found, teachers, strict=True))
    return torch.stack([functional.mse_loss(attention_map(mine), attention_map(other)) for mine, other in pairs]).sum()
