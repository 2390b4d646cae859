"""Several recipes beside each other: the honest table of each, all their rows measured in one run.

Stops at nothing that does not pay, also where a recipe says refuse = true: what it would refuse is what one wants to
see. Recipes may be about other data and inputs; each is held against its own start.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from toolchain.build.pipeline import compressed_and_referenced, prepare, step_artifacts
from toolchain.build.step_benchmark import Figures, figures
from toolchain.build.step_report import CODE, Tried, terms_of, told
from toolchain.build.steps import device_of, rehearsed, trained
from toolchain.errors import RecipeError, UsageError
from toolchain.job.job import Making, Reference
from toolchain.job.stages import code_digest, keep, kept
from toolchain.recipe import read_recipe
from toolchain.records.manifest import StepRecord

logger = logging.getLogger(__name__)


class Compared(msgspec.Struct, frozen=True):
    """A recipe's rows. name: the recipe's, or its path where several have the same."""

    name: str
    recipe: str
    steps: tuple[StepRecord, ...]


def compared(places: Sequence[Path], target: str) -> tuple[Compared, ...]:
    """Build the steps of each recipe and measure all of them in turn. What cannot work is refused before any work."""
    if not places:
        raise UsageError("compare: name at least one recipe; usage: toolchain compare RECIPE...")
    for place in places:
        if read_recipe(place).model.source.endswith(".onnx"):
            raise RecipeError(
                f"{place}: model.source is an ONNX file, which has no steps to compare; use toolchain build"
            )
    makings = tuple(_told_only(prepare(place, target)) for place in places)
    for making in makings:
        if (original := trained(making)) is not None:
            rehearsed(making, original)
    found = [_tried(making) for making in makings]
    measured = _measured([tried for tried, _ in found])
    names = [making.recipe.name for making in makings]
    return tuple(
        Compared(
            name if names.count(name) == 1 else str(place),
            str(place),
            _rows(tried, reference, measured, _prefix(number)),
        )
        for number, (name, place, (tried, reference)) in enumerate(zip(names, places, found, strict=True))
    )


def _told_only(making: Making) -> Making:
    build = msgspec.structs.replace(making.recipe.build, refuse=False)
    return replace(making, recipe=msgspec.structs.replace(making.recipe, build=build))


def _tried(making: Making) -> tuple[Tried, Reference]:
    logger.info(f"{making.place}:")
    folders, reference = compressed_and_referenced(making)
    return step_artifacts(making, folders), reference


def _measured(tried: Sequence[Tried]) -> dict[str, Figures]:
    built = {name: one for number, each in enumerate(tried) for name, one in each.built(_prefix(number)).items()}

    def make(folder: Path, _: Path) -> None:
        keep(folder, figures(built))

    first = tried[0].making
    inputs = {
        "artifacts": {name: artifact[0].name for name, (_, artifact) in built.items()},
        "data": [each.making.data.sha256 for each in tried],
        "each_threads": [each.making.threads for each in tried],
        "code": code_digest(*CODE),
        **device_of(first),
    }
    title = "all rows in turn: latency, accuracy and memory on this machine"
    return kept(first.made("compared", title, inputs, make), dict[str, Figures])


def _rows(tried: Tried, reference: Reference, measured: dict[str, Figures], prefix: str) -> tuple[StepRecord, ...]:
    steps, _ = told(tried, measured, terms_of(tried.making, reference, tried.folders), prefix)
    return tuple(msgspec.structs.replace(step, history=()) for step in steps)


def _prefix(number: int) -> str:
    return f"{number:03}/"
