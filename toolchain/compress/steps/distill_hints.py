"""Learn to give what a teacher gives inside (Romero et al. 2015, FitNets: Hints for Thin Deep Nets).

A 1x1 convolution beside each watched layer translates the student's channels into the teacher's; it is trained with
the student and dropped after. Knows the loss; which layers are paired is pairs.py's.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.auxiliary import Seen, Watched
from toolchain.compress.distillation.features import seen
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
from toolchain.compress.options import NotNegative, Positive, Share, check_training, seed_of
from toolchain.compress.step import Context, Net
from toolchain.compress.training.loop import accelerator, all_learning
from toolchain.errors import RecipeError


class DistillHints(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """loss = beta (mean squared difference to the teacher's layers, over the layers) + the answers' loss of `distill`
    (alpha = 0: labels alone).

    hint_epochs: so many first epochs learn from the hints alone (the paper's first stage). layers, teacher_layers:
    names in the student and in the teacher; none: where their stages end. Several teachers' losses are averaged.
    """

    beta: NotNegative = 1.0
    alpha: Share = 0.0
    temperature: Positive = 4.0
    hint_epochs: int = 0
    layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)
        if not 0 <= self.hint_epochs < self.epochs:
            raise RecipeError(f"hint_epochs = {self.hint_epochs} of {self.epochs} epochs: expected fewer")

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained, a teacher does not fit, or a layer does not exist."""
        check_lesson(self, net, context)
        self._pairs(net, teachers_for(self, context, inner=True), context)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained student without its regressors; resumes from context.folder. ModelError when the loss is no
        longer finite."""
        self.check(context)
        teachers = teachers_for(self, context, inner=True)
        pairs = self._pairs(net, teachers, context)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(self, context))
            regressors = [_regressor(pair) for pair in pairs]
        module = Watched(deepcopy(net.module), [pair.student_layer.name for pair in pairs], regressors)
        loss = _Hints(self, placed(teachers, accelerator()), layers_by_teacher(pairs, len(teachers)))
        wrapper, history = trained(Lesson(module, loss, teachers, loss.ready), net, self, context)
        return replace(net, module=wrapper.get_submodule("student"), history=history)

    def _pairs(self, net: Net, teachers: tuple[nn.Module, ...], context: Context) -> tuple[Pair, ...]:
        return pairs_of(net.module, teachers, self.layers, self.teacher_layers, context)


def _regressor(pair: Pair) -> nn.Module:
    return nn.Conv2d(pair.student_layer.channels, pair.teacher_layer.channels, 1)


@dataclass
class _Hints:
    """The loss, which knows whether this epoch learns from hints alone: ready() is called before each."""

    options: DistillHints
    teachers: tuple[nn.Module, ...]
    layers: Sequence[Sequence[str]]
    alone: bool = False

    def ready(self, module: nn.Module, epoch: int) -> None:
        all_learning(module, epoch)
        self.alone = epoch < self.options.hint_epochs

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        options, found = self.options, module(images)
        assert isinstance(found, Seen)
        hints = options.beta * hint_loss(found.beside, wanted(self.teachers, images, self.layers))
        if self.alone:
            return hints
        response = Response(self.teachers, options.alpha, options.temperature, options.label_smoothing)
        return hints + response(found.answers, images, labels)


def wanted(teachers: Sequence[nn.Module], images: Tensor, layers: Sequence[Sequence[str]]) -> tuple[Tensor, ...]:
    """What every teacher's layers give, teacher after teacher, without gradients."""
    with torch.no_grad():
        maps = (seen(teacher, images, names)[1] for teacher, names in zip(teachers, layers, strict=True))
        return tuple(one for group in maps for one in group)


def hint_loss(found: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of regressed maps [N, C, H, W] to the teacher's, averaged over the layers."""
    pairs = (alike(mine.float(), other.float()) for mine, other in zip(found, teachers, strict=True))
    return torch.stack([functional.mse_loss(mine, other) for mine, other in pairs]).mean()
