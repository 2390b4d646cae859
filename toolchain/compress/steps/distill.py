"""Learn from a teacher's softened answers beside the labels (Hinton et al. 2015, Distilling the Knowledge).

Knows the loss; who teaches is teachers.py's, the loop training.py's.
"""

from copy import deepcopy
from dataclasses import replace

from toolchain.compress.distillation.teachers import Weighting, placed
from toolchain.compress.distillation.training import (
    Lesson,
    Response,
    TaughtOptions,
    check_lesson,
    teachers_for,
    trained,
)
from toolchain.compress.options import Positive, Share, check_training
from toolchain.compress.step import Context, Net
from toolchain.compress.training.loop import accelerator


class Distill(TaughtOptions, frozen=True, forbid_unknown_fields=True):
    """loss = alpha T^2 KL(teacher || student, both at `temperature` T) + (1 - alpha) cross-entropy.

    weighting of several teachers' logits: "average", or "entropy": the confident count more, picture by picture.
    """

    temperature: Positive = 4.0
    alpha: Share = 0.9
    weighting: Weighting = "average"

    def check(self, context: Context) -> None:
        """RecipeError for options that cannot work on this data."""
        check_training(self, context)

    def rehearse(self, net: Net, context: Context) -> Net:
        """The same net; RecipeError when it cannot be trained, or a teacher does not fit."""
        check_lesson(self, net, context)
        teachers_for(self, context)
        return replace(net, history=())

    def apply(self, net: Net, context: Context) -> Net:
        """The trained student; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        teachers = teachers_for(self, context)
        ready = placed(teachers, accelerator())
        response = Response(ready, self.alpha, self.temperature, self.label_smoothing, self.weighting)
        lesson = Lesson(deepcopy(net.module), response.alone, teachers)
        module, history = trained(lesson, net, self, context)
        return replace(net, module=module, history=history)
