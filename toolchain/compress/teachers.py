"""Who teaches: nets named in a recipe, or the net as the recipe started from it; and what they answer together.

Knows nothing of losses.
"""

import torch
from torch import Tensor, nn

from toolchain.compress.step import Context
from toolchain.errors import RecipeError
from toolchain.models.check import classes_of
from toolchain.models.load import load_model
from toolchain.recipe import ModelSpec


def teachers_of(specs: tuple[ModelSpec, ...], context: Context) -> tuple[nn.Module, ...]:
    """The teachers in evaluation mode, each telling as many classes apart as the data has; without `specs` the
    original net. RecipeError for another class count."""
    if not specs:
        if context.original is None:
            raise RecipeError("no teacher is named and there is no original net; add teachers = [{ source = … }]")
        return (_checked(context.original(), "the net that the recipe starts from", context),)
    loaded = (load_model(spec, context.preprocessing, len(context.data.classes), context.base) for spec in specs)
    return tuple(_checked(one.module_or_refusal(), one.description, context) for one in loaded)


def _checked(module: nn.Module, description: str, context: Context) -> nn.Module:
    found, classes = classes_of(module, context.preprocessing), len(context.data.classes)
    if found != classes:
        raise RecipeError(
            f"teacher {description} tells {found} classes apart, data '{context.data.name}' has {classes}; "
            "name a teacher of the same classes"
        )
    return module.eval().requires_grad_(False)


def averaged(teachers: tuple[nn.Module, ...], images: Tensor) -> Tensor:
    """The mean of the teachers' logits [N, classes] (You et al. 2017)."""
    with torch.no_grad():
        return torch.stack([teacher(images) for teacher in teachers]).mean(0)
