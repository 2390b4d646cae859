"""Generations of the same net, each trained anew and taught by the one before (Furlanello et al. 2018, Born Again
Neural Networks).

Knows the order of generations; each is one training as `distill` does it, in a folder of its own, so that a killed
build goes on within the generation that it had reached.
"""

import logging
from copy import deepcopy
from dataclasses import replace
from typing import Literal

from torch import nn

from toolchain.compress.distillation.teachers import Weighting, move_teachers
from toolchain.compress.distillation.training import (
    DistillationObjective,
    DistillationOptions,
    ResponseLoss,
    TrainingHistory,
    check_student,
    load_step_teachers,
    train_student,
)
from toolchain.compress.options import Fraction, Positive, PositiveInt, check_training, seed_of
from toolchain.compress.reinitialize import reinitialize
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.loop import training_device

logger = logging.getLogger(__name__)


SEED_STRIDE = 101  # between generations: other first weights, and other shuffles


class BornAgain(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """`epochs` for each of `generations`, with the loss of `distill`: `teachers` teach the first generation, the first
    the second, and so on; the last is kept. start: each begins from "fresh" random weights, or from the "student" that
    the step is given."""

    generations: PositiveInt = 2
    start: Literal["fresh", "student"] = "fresh"
    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same net; RecipeError when it cannot be trained or begin anew, or a teacher does not fit."""
        check_student(self, net, context)
        load_step_teachers(self, context)
        self._initial_module(net, 0)
        return replace(net, history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The last generation; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers, history = load_step_teachers(self, context), list[dict[str, float]]()
        module = net.module
        for generation in range(1, self.generations + 1):
            logger.info(f"generation {generation} of {self.generations}")
            module, entries = self._train_generation(generation, net, teachers, context)
            done = (generation - 1) * self.epochs
            history += [{**one, "epoch": done + one["epoch"], "generation": float(generation)} for one in entries]
            teachers = (deepcopy(module).requires_grad_(False),)
        return replace(net, module=module, history=tuple(history))

    def _train_generation(
        self, generation: int, net: CompressedModel, teachers: tuple[nn.Module, ...], context: StepContext
    ) -> tuple[nn.Module, TrainingHistory]:
        ready, seed = (
            move_teachers(teachers, training_device()),
            seed_of(self, context) + SEED_STRIDE * (generation - 1),
        )
        response = ResponseLoss(ready, self.alpha, self.temperature, self.label_smoothing, self.weighting)
        lesson = DistillationObjective(self._initial_module(net, seed), response.of_model, teachers)
        place = replace(context, folder=context.folder / f"generation-{generation}")
        return train_student(lesson, net, self, place, seed)

    def _initial_module(self, net: CompressedModel, seed: int) -> nn.Module:
        """What a generation begins as."""
        return deepcopy(net.module) if self.start == "student" else reinitialize(net, seed)
