"""Trains the model on labels and on the softened outputs of one or several teachers (Hinton et al. 2015, Distilling the
Knowledge in a Neural Network)."""

from copy import deepcopy
from dataclasses import replace

from toolchain.compress.distillation.teachers import Weighting, move_teachers
from toolchain.compress.distillation.training import (
    DistillationObjective,
    DistillationOptions,
    ResponseLoss,
    check_student,
    load_step_teachers,
    train_student,
)
from toolchain.compress.options import Fraction, Positive, check_training
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.loop import training_device


class Distill(DistillationOptions, frozen=True, forbid_unknown_fields=True):
    """loss = alpha T^2 KL(teacher || student, both at `temperature` T) + (1 - alpha) cross-entropy.

    weighting: how several teachers' logits are combined: "average", or "entropy" (per image, confident teachers count
    more).
    """

    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_student(self, model, context)
        load_step_teachers(self, context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context)
        ready = move_teachers(teachers, training_device(), context.preprocessing)
        response = ResponseLoss(
            ready, self.alpha, self.temperature, self.label_smoothing, self.weighting, context.output
        )
        lesson = DistillationObjective(deepcopy(model.module), response.of_model, teachers)
        module, history = train_student(lesson, model, self, context)
        return replace(model, module=module, history=history)
