"""One build as it was requested, and refused early where it cannot work.

Knows the recipe and what its own text, its data and this machine rule out; makes nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from toolchain.backends import TABLE as TARGETS
from toolchain.backends import backend
from toolchain.compress import POST_EXPORT_STEPS, NamedSteps, check_order, parse_steps
from toolchain.data import DataSet
from toolchain.errors import BackendError, RecipeError
from toolchain.job.precisions import QuantizationPlan, check_orders, plan_quantization, requested_precisions
from toolchain.job.recipe_input import load_recipe_data
from toolchain.job.samples import check_golden
from toolchain.job.sources import check_without_labels
from toolchain.models import read_weights_record
from toolchain.recipe import Recipe, parse_recipe, read_recipe_text
from toolchain.records.manifest import Precision
from toolchain.transform.search import TransformMatch


@dataclass(frozen=True)
class BuildJob:
    """What is to be built of what. path: the recipe's; text: what it says; base: what its relative paths are
    relative to; data: without classes where no image is labelled; calibration: what ranges are found on; plan and
    precisions: what the steps order, and what is therefore built; replaces_head: a step gives the model other classes
    than it came with; threads: of an engine measured here; match: how near `recipe.input` is to the transform that it
    was found from."""

    path: Path
    text: str
    base: Path
    recipe: Recipe
    target: str
    data: DataSet
    calibration: DataSet
    steps: NamedSteps
    plan: QuantizationPlan
    precisions: tuple[Precision, ...]
    replaces_head: bool
    threads: int
    match: TransformMatch | None = None


def read_job(path: Path, target: str, text: str | None = None) -> BuildJob:
    """Read the recipe at `path` and refuse everything that can be refused before any work is done: RecipeError,
    UsageError, DataError or BackendError. text: the recipe itself, where it is in no file; `path` then names it in
    messages, and its paths are relative to the folder of that name."""
    from deploy.runtime.device.probe import default_threads

    text = read_recipe_text(path) if text is None else text
    recipe, where = parse_recipe(text, path), str(path)
    room = backend(target)
    if reason := room.missing():
        raise BackendError(f"target {target}: {reason}")
    steps = parse_steps(recipe.step, where)
    check_order(steps, where)
    _check_kind(recipe, steps, path)
    _check_options(recipe, path)
    plan = plan_quantization(steps, read_weights_record(recipe.model, path.parent))
    precisions = requested_precisions(plan, recipe.build, room, where)
    if recipe.data is None:
        check_without_labels(recipe, steps, plan, path)
    found = load_recipe_data(recipe, path)
    recipe, data, calibration = found.recipe, found.data, found.calibration
    check_orders(plan, precisions, room, data, calibration)
    check_golden(calibration)
    return BuildJob(
        path=path,
        text=text,
        base=path.parent,
        recipe=recipe,
        target=target,
        data=data,
        calibration=calibration,
        steps=steps,
        plan=plan,
        precisions=precisions,
        replaces_head=any(getattr(step, "replace_head", False) for _, step in steps),
        threads=recipe.build.threads or default_threads(),
        match=found.match,
    )


def _check_kind(recipe: Recipe, steps: NamedSteps, path: Path) -> None:
    """RecipeError for a step that works on a torch module, where the model comes as a finished graph."""
    other = next((name for name, _ in steps if name not in POST_EXPORT_STEPS), None)
    kind = {".onnx": "an ONNX file", ".pt2": "a torch.export program"}.get(Path(recipe.model.source).suffix)
    if kind and other:
        raise RecipeError(
            f"{path}: model.source is {kind}, on which only {' and '.join(POST_EXPORT_STEPS)} work, not {other}; "
            "give the model as path/file.py:function, or remove the step"
        )


def _check_options(recipe: Recipe, path: Path) -> None:
    """RecipeError for a back end that does not exist, or for an option that it does not have."""
    for name, options in recipe.target.items():
        if name not in TARGETS:
            raise RecipeError(f"{path}: [target.{name}]: no such target; there are: {', '.join(TARGETS)}")
        known = backend(name).OPTIONS
        for option in options:
            if option not in known:
                held = f"it has: {', '.join(sorted(known))}" if known else "it has none"
                raise RecipeError(f"{path}: [target.{name}]: no option `{option}`; {held}")
