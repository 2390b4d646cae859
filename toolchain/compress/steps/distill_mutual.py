"""Trains several models together, each on the labels and on the others' outputs, and keeps one (Zhang et al. 2018, Deep
Mutual Learning)."""

import logging
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from toolchain.compress.distillation.auxiliary import Peers
from toolchain.compress.distillation.teachers import load_teachers
from toolchain.compress.distillation.training import DistillationObjective, check_student, train_student
from toolchain.compress.metrics import accuracy
from toolchain.compress.options import NonNegative, Positive, PositiveInt, TrainingOptions, check_training, seed_of
from toolchain.compress.reinitialize import reinitialize
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.losses import choice_logits, classification_loss, distillation_kl, logits_of
from toolchain.errors import RecipeError
from toolchain.recipe import ModelSpec
from toolchain.records.output import OutputKind

logger = logging.getLogger(__name__)


class DistillMutual(TrainingOptions, frozen=True, forbid_unknown_fields=True):
    """Each model's loss = cross-entropy + weight T^2 KL(peer || model, at `temperature` T), averaged over its peers.

    teachers: models as in [model] that are trained as peers; default: `copies` of the student with new random weights.
    keep: the student ("first"), or the copy with the best accuracy on the validate split ("best").
    """

    teachers: tuple[ModelSpec, ...] = ()
    copies: PositiveInt = 1
    temperature: Positive = 1.0
    weight: NonNegative = 1.0
    keep: Literal["first", "best"] = "first"

    def check(self, context: StepContext) -> None:
        """Raise RecipeError for options that cannot work on this data, or contradict each other."""
        check_training(self, context)
        if self.keep == "best" and self.teachers:
            raise RecipeError(
                'keep = "best" could return a teacher instead of the recipe\'s model; set keep = "first" with teachers'
            )
        if self.keep == "best" and not len(context.data.splits.get("validate", ())):
            raise RecipeError(f"keep = \"best\" needs a validate split, data '{context.data.name}' has none")

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The same model, untrained; RecipeError when it cannot be trained, or a peer cannot."""
        check_student(self, model, context)
        self._peers(model, context)
        return replace(model, history=())

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        """The model to keep; resumes from context.folder. ModelError when the loss is no longer finite."""
        self.check(context)
        peers = Peers(deepcopy(model.module), self._peers(model, context))
        wrapper, history = train_student(
            DistillationObjective(peers, partial(self._loss, context.output)), model, self, context
        )
        students = (wrapper.get_submodule("student"), *wrapper.get_submodule("others").children())
        return replace(model, module=self._select_student(students, context), history=history)

    def _peers(self, model: CompressedModel, context: StepContext) -> list[nn.Module]:
        if not self.teachers:
            return [reinitialize(model, seed_of(self, context) + number) for number in range(1, self.copies + 1)]
        others = load_teachers(self.teachers, context, needs_features=True)  # a graph cannot be trained
        return [other.requires_grad_(True) for other in others]

    def _loss(self, output: OutputKind, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        answers = module(images)
        choices = [choice_logits(logits_of(answer), output) for answer in answers]
        hard = [classification_loss(answer, labels, self.label_smoothing, output) for answer in answers]
        return torch.stack([loss + self.weight * self._peer_loss(at, choices) for at, loss in enumerate(hard)]).sum()

    def _peer_loss(self, number: int, choices: list[Tensor]) -> Tensor:
        others = [logits.detach() for at, logits in enumerate(choices) if at != number]
        return torch.stack([distillation_kl(choices[number], other, self.temperature) for other in others]).mean()

    def _select_student(self, students: tuple[nn.Module, ...], context: StepContext) -> nn.Module:
        if self.keep == "first":
            return students[0]
        split = context.data.split("validate")
        accuracies = [
            accuracy(student, split, context.preprocessing, "peers: validate", context.output) for student in students
        ]
        logger.info("peers on validate: " + ", ".join(f"{share:.2%}" for share in accuracies))
        return students[accuracies.index(max(accuracies))]
