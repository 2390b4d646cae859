"""What is wrong with a recipe and can be said at once: its keys, its steps' names and options, the files that it names.

Imports neither torch nor an engine, which take seconds. What passes here is read again by read_job(), which checks the
rest: values, order, what fits together.
"""

from pathlib import Path

from toolchain.compress import check_step_names
from toolchain.recipe import Recipe, read_recipe
from toolchain.recipe_files import require_model_files


def check_recipe(path: Path) -> Recipe:
    """The recipe at `path`. RecipeError, ModelError or DataError, in the words that the build would use."""
    recipe = read_recipe(path)
    check_step_names(recipe.step, str(path))
    require_model_files(recipe, path.parent)
    _require_data(recipe, path.parent)
    return recipe


def _require_data(recipe: Recipe, base: Path) -> None:
    """Data that is not there cannot be loaded: the data set itself says so, at once."""
    spec = recipe.data
    if spec is not None and spec.path is not None and not (base / spec.path).exists():
        from toolchain.data import load

        load(spec, recipe.input, base)
