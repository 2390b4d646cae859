"""Which images a build sees: the recipe's data, what is calibrated on, and what stands in where nothing is labelled."""

import logging
from pathlib import Path

from toolchain.compress import POST_EXPORT_STEPS, NamedSteps
from toolchain.data import DataSet, load
from toolchain.data.unlabelled import draw_images, strip_labels
from toolchain.errors import RecipeError
from toolchain.job.precisions import QuantizationPlan
from toolchain.recipe import DataSpec, Recipe

logger = logging.getLogger(__name__)


def load_sources(recipe: Recipe, path: Path) -> tuple[DataSet, DataSet]:
    """The data, and what is calibrated on. Without [data], both are images without labels: those of [calibration], else
    drawn ones. path: the recipe's."""
    spec, base = _calibration_spec(recipe, path), path.parent
    if recipe.data is not None:
        logger.info(f"data: {recipe.data.name}")
        data = load(recipe.data, recipe.input, base)
        if not data.classes:
            raise RecipeError(
                f"{path}: [data] needs labels, and {recipe.data.name} has none; put it under [calibration]: "
                f'images = "{recipe.data.path}"'
            )
        return data, load(spec, recipe.input, base) if spec else data
    images = strip_labels(load(spec, recipe.input, base)) if spec else draw_images(recipe.input)
    logger.info(f"data: none, so the accuracy is not known; numerics are compared on {images.name}")
    return images, images


def check_without_labels(recipe: Recipe, steps: NamedSteps, plan: QuantizationPlan, path: Path) -> None:
    """RecipeError for a step that needs labelled images, or any images, where the recipe names none."""
    for number, (name, _) in enumerate(steps, 1):
        if name not in POST_EXPORT_STEPS:
            raise RecipeError(
                f"{path}: step {number}, {name}: needs labelled images, and the recipe has no [data]; name some, or "
                "remove the step"
            )
    how = plan.post_training
    if how is not None and how.max_drop is not None:
        raise RecipeError(
            f"{path}: max_drop of quantize is measured on labelled images, and the recipe has no [data]; name some, or "
            "remove max_drop"
        )
    if how is not None and not how.dynamic and recipe.calibration is None:
        raise RecipeError(
            f"{path}: quantize needs images like those that will come, and the recipe has no [data]; name a folder of "
            'them, without labels: [calibration] images = "FOLDER"'
        )


def _calibration_spec(recipe: Recipe, path: Path) -> DataSpec | None:
    if recipe.calibration is None:
        return None
    if recipe.calibration.images is not None:
        return DataSpec("images", recipe.calibration.images)
    if recipe.calibration.data is None:
        raise RecipeError(f"{path}: [calibration] is empty; give images, a folder of them, or data, a data set")
    return recipe.calibration.data
