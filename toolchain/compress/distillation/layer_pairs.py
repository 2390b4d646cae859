"""Pairs layers of a student with layers of its teachers, and brings feature maps to a common size."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.distillation.features import FeatureLayer, find_layers, find_stage_ends
from toolchain.compress.step import StepContext
from toolchain.errors import RecipeError


@dataclass(frozen=True)
class LayerPair:
    """A student's layer and the layer of a teacher that it learns from; teacher: that teacher's index."""

    teacher: int
    student_layer: FeatureLayer
    teacher_layer: FeatureLayer


def pair_layers(
    student: nn.Module,
    teachers: tuple[nn.Module, ...],
    layers: tuple[str, ...],
    teacher_layers: tuple[str, ...],
    context: StepContext,
) -> tuple[LayerPair, ...]:
    """Pair named layers in order (the teacher's have the same names unless teacher_layers is given), or stage ends,
    deepest with deepest. RecipeError with the nearest names, or for two lists of different length."""
    if teacher_layers and len(teacher_layers) != len(layers):
        raise RecipeError(
            f"teacher_layers names {len(teacher_layers)} layers, layers {len(layers)}; expected the same number"
        )
    pairs: list[LayerPair] = []
    for number, teacher in enumerate(teachers):
        if layers:
            ours = find_layers(student, layers, context.preprocessing, "layers", "the student")
            option = "teacher_layers" if teacher_layers else "layers, for want of teacher_layers"
            theirs = find_layers(teacher, teacher_layers or layers, context.preprocessing, option, "the teacher")
        else:
            ours = find_stage_ends(student, context.preprocessing, "the student")
            theirs = find_stage_ends(teacher, context.preprocessing, "the teacher")
            count = min(len(ours), len(theirs))
            ours, theirs = ours[-count:], theirs[-count:]
        pairs += [LayerPair(number, mine, other) for mine, other in zip(ours, theirs, strict=True)]
    return tuple(pairs)


def teacher_layer_names(pairs: Sequence[LayerPair], teachers: int) -> list[list[str]]:
    """The layers to capture in each teacher, in the order of the pairs."""
    return [[pair.teacher_layer.name for pair in pairs if pair.teacher == number] for number in range(teachers)]


def match_sizes(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both feature maps [N, C, H, W] at the smaller of the two heights and widths, by adaptive average pooling."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    return _pool_to(first, size), _pool_to(second, size)


def _pool_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else functional.adaptive_avg_pool2d(maps, size)
