"""Loads teachers (models named in a recipe, or the model as the recipe started from it) and combines their logits."""

from typing import Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.onnx_teacher import OnnxTeacher
from toolchain.compress.quantization.restore import rebuild_qat_layers
from toolchain.compress.step import StepContext
from toolchain.compress.training.losses import choice_logits
from toolchain.errors import RecipeError
from toolchain.models.check import class_count
from toolchain.models.load import load_model
from toolchain.models.memory_layout import lay_out_weights, make_contiguous
from toolchain.recipe import ModelSpec
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing

Weighting = Literal["average", "entropy"]


def load_teachers(
    specs: tuple[ModelSpec, ...], context: StepContext, *, needs_features: bool = False, small_images: bool = False
) -> tuple[nn.Module, ...]:
    """The teachers on the CPU in evaluation mode; without `specs` the original model. Each must have the data's class
    count, in the same order, which cannot be checked. needs_features: their inner layers will be captured;
    small_images: they must accept smaller images (small_epochs).

    RecipeError for another class count, for a graph (ONNX, torch.export) where inner layers are needed, and for a model
    that rejects smaller images where it must accept them.
    """
    if specs:
        teachers = [_load_teacher(spec, context, needs_features) for spec in specs]
    elif context.original is not None:
        teachers = [(context.original(), "the model that the recipe starts from")]
    else:
        raise RecipeError("no teacher is named and there is no original model; add teachers = [{ source = … }]")
    return tuple(_check_teacher(module, description, context, small_images) for module, description in teachers)


def _load_teacher(spec: ModelSpec, context: StepContext, needs_features: bool) -> tuple[nn.Module, str]:
    if needs_features and spec.source.endswith((".onnx", ".pt2")):
        kind = "an ONNX file" if spec.source.endswith(".onnx") else "a torch.export program"
        raise RecipeError(
            f"teacher {spec.source}: {kind} has no accessible inner layers; use distill or distill_decoupled, or a "
            "teacher given as a torch module"
        )
    # allow_other_head: _check_teacher refuses a wrong class count, with a message about teachers
    classes = len(context.data.classes)
    loaded = load_model(
        spec if spec.output else msgspec.structs.replace(spec, output=context.output.activation),
        context.preprocessing,
        classes,
        context.base,
        allow_other_head=True,
        rebuild=rebuild_qat_layers,
        multilabel=context.data.multilabel,
    )
    if bool(loaded.output.in_graph) != bool(context.output.in_graph):
        mine, other = ("probabilities", "scores")[:: 1 if loaded.output.in_graph else -1]
        raise RecipeError(f"teacher {spec.source}: returns {mine}, the student {other}; expected the same of both")
    if loaded.module is None:
        return OnnxTeacher(loaded.require_graph()), f"teacher {loaded.description}"
    return loaded.module, f"teacher {loaded.description}"


def _check_teacher(module: nn.Module, description: str, context: StepContext, small_images: bool) -> nn.Module:
    count, classes = class_count(module, context.preprocessing, description), len(context.data.classes)
    if not context.output.fits(count, classes):
        raise RecipeError(
            f"{description} has {count} classes, data '{context.data.name}' has {classes}; "
            "name a teacher with the same classes"
        )
    if small_images:
        _check_small_images(module, description, context)
    return module.eval().requires_grad_(False)


def _check_small_images(teacher: nn.Module, description: str, context: StepContext) -> None:
    height, width, channels = context.preprocessing.shape
    shape = (2, channels, max(1, 3 * height // 4), max(1, 3 * width // 4))
    try:
        with torch.no_grad():
            teacher(torch.zeros(shape))
    except Exception as error:  # a user's own forward can raise anything
        raise RecipeError(
            f"{description} takes no images of {shape[2]}x{shape[3]}, as small_epochs requires "
            f"({(str(error).splitlines() or [''])[0]}); set small_epochs = 0"
        ) from error


def move_teachers(
    teachers: tuple[nn.Module, ...], device: torch.device, preprocessing: Preprocessing
) -> tuple[nn.Module, ...]:
    """The teachers on the student's device; an ONNX file stays on the CPU. Each takes images in the student's order in
    memory, whatever its own."""
    for teacher in teachers:
        if lay_out_weights(teacher.to(device), preprocessing) is torch.contiguous_format:
            teacher.register_forward_pre_hook(make_contiguous)
    return teachers


def teacher_logits(
    teachers: tuple[nn.Module, ...],
    images: Tensor,
    weighting: Weighting = "average",
    output: OutputKind = SOFTMAX,
) -> Tensor:
    """The teachers' combined logits [N, classes], without gradients; by sigmoid those of choices (choice_logits)."""
    with torch.no_grad():
        answers = torch.stack([choice_logits(teacher(images).float(), output) for teacher in teachers])
        return answers.mean(0) if weighting == "average" else entropy_weighted_mean(answers)


def entropy_weighted_mean(answers: Tensor) -> Tensor:
    """The mean of logits [teachers, N, classes], weighted per image so that confident teachers count more: K teachers
    with entropies H_k have weights (1 - H_k / sum H) / (K - 1) (after Kwon et al. 2020, Adaptive knowledge distillation
    based on entropy); the plain mean (You et al. 2017) where all entropies are zero."""
    count = len(answers)
    if count == 1:
        return answers[0]
    logs = functional.log_softmax(answers, 2)
    entropies = -(logs.exp() * logs).sum(2)
    total = entropies.sum(0)
    shares = torch.where(total > 0, entropies / total.clamp(min=1e-12), 1 / count)
    weights = (1 - shares) / (count - 1)
    return (weights.unsqueeze(2) * answers).sum(0)
