"""Learn from a teacher's softened answers beside the labels (Hinton et al. 2015, Distilling the Knowledge).

Knows the loss; who teaches is teachers.py's, the loop training.py's.
"""

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

    weighting of several teachers' logits: "average", or "entropy": the confident count more, picture by picture.
    """

    temperature: Positive = 4.0
    alpha: Fraction = 0.9
    weighting: Weighting = "average"

    def check(self, context: StepContext) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The same net; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_student(self, net, context)
        load_step_teachers(self, context)
        return replace(net, history=())

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = load_step_teachers(self, context)
        ready = move_teachers(teachers, training_device())
        response = ResponseLoss(ready, self.alpha, self.temperature, self.label_smoothing, self.weighting)
        lesson = DistillationObjective(deepcopy(net.module), response.of_model, teachers)
        module, history = train_student(lesson, net, self, context)
        return replace(net, module=module, history=history)
