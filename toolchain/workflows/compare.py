"""Several recipes compared: the step report of each, all their rows measured in one run.

Never stops at a step that does not pay, even where a recipe sets refuse = true: the comparison is to show it. Recipes
may differ in data and input; each is compared with its own original model.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from toolchain.build.artifacts import StepArtifacts, build_step_artifacts
from toolchain.build.dry_run import dry_run_steps
from toolchain.build.pipeline import cache_for, compress
from toolchain.build.reference import Reference
from toolchain.build.step_benchmark import LatencyMeter, StepFigures, measure_all
from toolchain.build.step_report import criteria_for, judge_models, name_subjects
from toolchain.build.trained_model import Model, model_inputs, trained_model
from toolchain.compress.distributed import distributed_context
from toolchain.errors import RecipeError, UsageError
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.job import BuildJob, read_job
from toolchain.recipe import read_recipe
from toolchain.records.manifest import StepRecord

logger = logging.getLogger(__name__)


class Compared(msgspec.Struct, frozen=True):
    """A recipe's rows. name: the recipe's, or its path where several have the same."""

    name: str
    recipe: str
    steps: tuple[StepRecord, ...]


@dataclass(frozen=True)
class BuiltSteps:
    """A recipe's models, as loaded and after each step, with the artifact of each."""

    job: BuildJob
    models: tuple[Model, ...]
    artifacts: StepArtifacts
    reference: Reference


def compare_recipes(places: Sequence[Path], target: str) -> tuple[Compared, ...]:
    """Build the steps of each recipe and measure all of them in turn. Everything is validated first."""
    if not places:
        raise UsageError("compare: name at least one recipe; usage: toolchain compare RECIPE...")
    for place in places:
        if read_recipe(place).model.source.endswith(".onnx"):
            raise RecipeError(
                f"{place}: model.source is an ONNX file, which has no steps to compare; use toolchain build"
            )
    jobs = tuple(_without_refusal(read_job(place, target)) for place in places)
    for job in jobs:
        _dry_run(job)
    built = [_build_steps(job) for job in jobs]
    title = "all rows in turn: latency, accuracy and memory on this machine"
    subjects = [
        name_subjects(each.job, each.artifacts, each.reference.output, _prefix(number))
        for number, each in enumerate(built)
    ]
    figures = measure_all(
        cache_for(jobs[0]), title, {name: subject for each in subjects for name, subject in each.items()}, {}
    )
    names = [job.recipe.name for job in jobs]
    return tuple(
        Compared(name if names.count(name) == 1 else str(place), str(place), _records(each, figures, _prefix(number)))
        for number, (name, place, each) in enumerate(zip(names, places, built, strict=True))
    )


def _without_refusal(job: BuildJob) -> BuildJob:
    build = msgspec.structs.replace(job.recipe.build, refuse=False)
    return replace(job, recipe=msgspec.structs.replace(job.recipe, build=build))


def _dry_run(job: BuildJob) -> None:
    """Check the steps of every recipe before any step runs."""
    cache = cache_for(job)
    original = trained_model(job, DistributedStageCache(cache, distributed_context()), model_inputs(job))
    if original is not None:
        dry_run_steps(job, cache, original, LatencyMeter(job))


def _build_steps(job: BuildJob) -> BuiltSteps:
    logger.info(f"{job.path}:")
    cache, inputs = cache_for(job), model_inputs(job)
    models, reference = compress(job, DistributedStageCache(cache, distributed_context()), inputs)
    return BuiltSteps(job, models, build_step_artifacts(job, cache, inputs, models), reference)


def _records(built: BuiltSteps, figures: Mapping[str, StepFigures], prefix: str) -> tuple[StepRecord, ...]:
    criteria = criteria_for(built.job, built.reference, built.models)
    records, _ = judge_models(built.models, built.artifacts, figures, criteria, prefix)
    return tuple(msgspec.structs.replace(record, history=()) for record in records)


def _prefix(number: int) -> str:
    return f"{number:03}/"
