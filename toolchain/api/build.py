"""`toolchain.build`: a recipe, in a file or as a value, becomes a bundle."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.api.bundle import BuiltBundle
from toolchain.api.display import show_progress

if TYPE_CHECKING:
    from toolchain.recipe import Recipe


def build_bundle(
    recipe: "str | PathLike[str] | Recipe",
    target: str = "openvino",
    *,
    release: str | None = None,
    track: str | None = None,
) -> BuiltBundle:
    """Build a recipe into a bundle: train and compress the model, export it, compare the candidates, choose one.

    Unchanged stages are kept in `.toolchain/` (or `$TOOLCHAIN_HOME`), as by `toolchain build`. Progress is shown on a
    terminal and in a notebook; a program that configures logging gets the messages of the loggers `toolchain` and
    `deploy` instead.

    Args:
        recipe: the path of a TOML file, or a `Recipe`, whose paths are relative to the current folder
        target: the engine to build for: openvino, tensorrt, onnxruntime or null
        release: the name of the release; by default the next number, or the last one if nothing changed
        track: also write the build's history to mlflow:URI, tensorboard:FOLDER or wandb:FOLDER (offline)

    Raises:
        errors.RecipeError: a key, type, step or order that does not fit, with its place
        errors.UsageError: a tracker that is not installed or cannot be written to
        errors.ToolchainError: everything else that cannot be done, in one line

    Example:
        >>> bundle = edge.build("grey28.toml", target="openvino")
        >>> bundle.precision in ("fp32", "bf16", "int8")
        True
    """
    from toolchain.build.pipeline import build
    from toolchain.recipe import Recipe
    from toolchain.tracking import parse_track

    tracker = parse_track(track)
    with show_progress():
        if isinstance(recipe, Recipe):
            from toolchain.recipe_toml import format_recipe, name_recipe

            bundle = build(name_recipe(recipe), target, release, format_recipe(recipe))
        else:
            bundle = build(Path(recipe), target, release)
        if tracker:
            from toolchain.report.build_report import report_build
            from toolchain.tracking.run import tracked_run

            tracker.write(tracked_run(bundle, report_build(bundle)))
    return BuiltBundle(bundle)
