"""Trains the same model anew for several generations, each with the previous one as its teacher (Furlanello et al.
2018, Born Again Neural Networks).

Each generation is a training as in `distill`, in a folder of its own, so that a killed build resumes within the
generation that it had reached.
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

SEED_STRIDE = 101  # between generations: other initial weights and shuffles


class BornAgain(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """Each of `generations` is trained for `epochs` with the loss of `distill`: the first learns from `teachers`, the
    second from the first, and so on; the last is kept. start: each begins with new random weights ("fresh"), or with
    the weights before this step ("student")."""

    generations: PositiveInt = 2
    start: Literal["fresh", "student"] = "fresh"
    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained or reset, or a teacher does not fit."""
        check_student(self, model, context)
        load_step_teachers(self, context)
        self._initial_module(model, 0)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The last generation; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers, history = load_step_teachers(self, context), list[dict[str, float]]()
        module = model.module
        for generation in range(1, self.generations + 1):
            logger.info(f"generation {generation} of {self.generations}")
            module, entries = self._train_generation(generation, model, teachers, context)
            done = (generation - 1) * self.epochs
            history += [{**entry, "epoch": done + entry["epoch"], "generation": float(generation)} for entry in entries]
            teachers = (deepcopy(module).requires_grad_(False),)
        return replace(model, module=module, history=tuple(history))

    def _train_generation(
        self, generation: int, model: CompressedModel, teachers: tuple[nn.Module, ...], context: StepContext
    ) -> tuple[nn.Module, TrainingHistory]:
        ready, seed = (
            move_teachers(teachers, training_device(), context.preprocessing),
            seed_of(self, context) + SEED_STRIDE * (generation - 1),
        )
        response = ResponseLoss(
            ready, self.alpha, self.temperature, self.label_smoothing, self.weighting, context.output
        )
        lesson = DistillationObjective(self._initial_module(model, seed), response.of_model, teachers)
        place = replace(context, folder=context.folder / f"generation-{generation}")
        return train_student(lesson, model, self, place, seed)

    def _initial_module(self, model: CompressedModel, seed: int) -> nn.Module:
        """A generation's model before training."""
        return deepcopy(model.module) if self.start == "student" else reinitialize(model, seed)
