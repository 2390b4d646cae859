"""Generations of the same net, each trained anew and taught by the one before (Furlanello et al. 2018, Born Again
Neural Networks).

Knows the order of generations; each is one training as `distill` does it, in a folder of its own, so that a killed
build goes on within the generation that it had reached.
"""

from copy import deepcopy
from dataclasses import replace
from typing import Literal

from torch import nn

from toolchain.compress.distillation.teachers import Weighting, placed
from toolchain.compress.distillation.training import (
    History,
    Lesson,
    Response,
    TaughtOptions,
    check_lesson,
    teachers_for,
    trained,
)
from toolchain.compress.options import Count, Positive, Share, check_training, seed_of
from toolchain.compress.reinitialize import fresh
from toolchain.compress.step import Context, Net
from toolchain.compress.training.loop import accelerator

SEEDS_APART = 101  # between generations: other first weights, and other shuffles


class BornAgain(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """`epochs` for each of `generations`, with the loss of `distill`: `teachers` teach the first generation, the first
    the second, and so on; the last is kept. start: each begins from "fresh" random weights, or from the "student" that
    the step is given."""

    generations: Count = 2
    start: Literal["fresh", "student"] = "fresh"
    temperature: Positive = 4.0
    alpha: Share = 0.9
    weighting: Weighting = "average"

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained or begin anew, or a teacher does not fit."""
        check_lesson(self, net, context)
        teachers_for(self, context)
        self._first(net, 0)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The last generation; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers, history = teachers_for(self, context), list[dict[str, float]]()
        module = net.module
        for generation in range(1, self.generations + 1):
            context.say(f"generation {generation} of {self.generations}")
            module, entries = self._generation(generation, net, teachers, context)
            done = (generation - 1) * self.epochs
            history += [{**one, "epoch": done + one["epoch"], "generation": float(generation)} for one in entries]
            teachers = (deepcopy(module).requires_grad_(False),)
        return replace(net, module=module, history=tuple(history))

    def _generation(
        self, generation: int, net: Net, teachers: tuple[nn.Module, ...], context: Context
    ) -> tuple[nn.Module, History]:
        ready, seed = placed(teachers, accelerator()), seed_of(self, context) + SEEDS_APART * (generation - 1)
        response = Response(ready, self.alpha, self.temperature, self.label_smoothing, self.weighting)
        lesson = Lesson(self._first(net, seed), response.alone, teachers)
        place = replace(context, folder=context.folder / f"generation-{generation}")
        return trained(lesson, net, self, place, seed)

    def _first(self, net: Net, seed: int) -> nn.Module:
        """What a generation begins as."""
        return deepcopy(net.module) if self.start == "student" else fresh(net, seed)
