"""A recipe's data, and its [input] found where that names the training's own transform.

What was found is kept by the digest of the transform's files and of the data. Knows nothing of the model: what is left
of the difference is judged by build/transform_check.py.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from toolchain.data import DataSet
from toolchain.data.class_names import align_classes, rename_classes
from toolchain.data.originals import refit, some_images
from toolchain.errors import RecipeError
from toolchain.job.sources import load_sources
from toolchain.job.stage import Stage, tool_versions
from toolchain.job.stage_cache import StageCache
from toolchain.models.load import read_labels
from toolchain.paths import home
from toolchain.recipe import Recipe
from toolchain.records.tensors import Preprocessing
from toolchain.transform.lines import input_lines
from toolchain.transform.search import TransformMatch, find_preprocessing
from toolchain.transform.user_transform import load_transform, transform_digests

logger = logging.getLogger(__name__)

ANY_SIZE = Preprocessing(32, 32)  # until it is known: nothing is indexed before
IMAGES, MAX_PIXELS = 48, 120_000_000
PARTS = ("validate", "train", "certify", "test")  # whose images are compared; their labels are not looked at
LIBRARIES = ("torch", "torchvision", "pillow", "numpy", "timm", "albumentations", "opencv-python")
HEADLESS = "opencv-python-headless"


@dataclass(frozen=True)
class RecipeData:
    """recipe: with its `input` known; data, calibration: as sources.py; match: how near the input is to the transform
    that it was found from."""

    recipe: Recipe
    data: DataSet
    calibration: DataSet
    match: TransformMatch | None = None


def load_recipe_data(recipe: Recipe, path: Path) -> RecipeData:
    """The data of the recipe at `path`. RecipeError where [input] says something else than its transform does;
    ModelError or DataError for a transform or data that cannot be used."""
    found = _load_data(recipe, path)
    if recipe.data is None:
        return found
    data = _name_classes(found.data, recipe, path)
    return replace(found, data=data, calibration=data if found.calibration is found.data else found.calibration)


def _name_classes(data: DataSet, recipe: Recipe, path: Path) -> DataSet:
    """The data's classes in the order of model.labels, as far as names say."""
    assert recipe.data is not None
    data = rename_classes(data, recipe.data.names, str(path))
    if (labels := read_labels(recipe.model, path.parent)) is not None:
        return align_classes(data, labels, str(path))
    return data


def _load_data(recipe: Recipe, path: Path) -> RecipeData:
    if recipe.transform is None:
        return RecipeData(recipe, *load_sources(recipe, path))
    if recipe.data is None and recipe.calibration is None:
        raise RecipeError(
            f"{path}: input.transform is compared on real images, and the recipe names none; name a folder of them: "
            '[calibration] images = "FOLDER"'
        )
    any_size = msgspec.structs.replace(ANY_SIZE, channels=recipe.input.channels)
    data, calibration = load_sources(msgspec.structs.replace(recipe, input=any_size), path)
    match = _match_transform(recipe, recipe.transform, path.parent, data)
    _report(match)
    _check_written_keys(recipe.input, match, path)
    known = msgspec.structs.replace(recipe, input=match.preprocessing)
    fitted = refit(data, known.input)
    return RecipeData(known, fitted, fitted if calibration is data else refit(calibration, known.input), match)


def _match_transform(recipe: Recipe, name: str, base: Path, data: DataSet) -> TransformMatch:
    gray = recipe.input.channels == 1

    def make(_: Path, __: Path) -> TransformMatch:
        return find_preprocessing(load_transform(name, base, gray), some_images(data, PARTS, IMAGES, MAX_PIXELS))

    inputs = {
        "transform": name,
        "gray": gray,
        "files": transform_digests(name, base),
        "data": data.sha256,
        "tools": tool_versions(*LIBRARIES, HEADLESS),
    }
    cache = StageCache(home() / "cache", recipe.build.seed)
    title = f"input: what {name} does to an image"
    return cache.run(Stage("transform", title, TransformMatch, inputs, make)).record


def _report(match: TransformMatch) -> None:
    logger.info(f"input: {match.transform} is equal to these lines of [input], {match.difference}:")
    for line in input_lines(match.preprocessing):
        logger.info(f"    {line}")


def _check_written_keys(written: Preprocessing, match: TransformMatch, path: Path) -> None:
    """RecipeError for a key that says something else; a key at its default says nothing."""
    for field in msgspec.structs.fields(Preprocessing):
        wanted, found = (getattr(each, field.name) for each in (written, match.preprocessing))
        if wanted not in (field.default, 0, found):
            lines = dict(line.split(" = ", 1) for line in input_lines(match.preprocessing, whole=True))
            raise RecipeError(
                f"{path}: input: {field.name} = {wanted}, but {match.transform} has {lines[field.name]}; remove "
                f"{field.name}, or transform"
            )
