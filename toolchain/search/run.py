"""A search on one page: what may be varied, the trials while there is time, and the front built at the end.

    recipe -> uncut net built -> space -> (cut, timed -> near the front? -> trained)* -> front built -> record

Everything that takes long is a kept stage or a trial in the study, so that the same command goes on wherever it was
ended. Knows the order; what each piece depends on and does is its module's.
"""

import logging
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from deploy.runtime.device.probe import fingerprint
from toolchain.backends import backend
from toolchain.build.step_benchmark import LatencyMeter
from toolchain.build.trained_model import load_staged
from toolchain.compress.distributed import report_error_once
from toolchain.compress.options import TrainingOptions
from toolchain.compress.step import Quantization
from toolchain.compress.training.epoch_time import measure_epoch_s
from toolchain.errors import DeviceError, RecipeError, ToolchainError, UsageError
from toolchain.job.job import BuildJob, read_job
from toolchain.paths import home
from toolchain.recipe import SearchSpec
from toolchain.records.bundle import Bundle
from toolchain.search.accuracy import reference_grades, require_labels
from toolchain.search.budget import SearchBudget, format_duration
from toolchain.search.compose import RecipeBase, relocate, split_steps
from toolchain.search.evaluate import TrialRunner
from toolchain.search.final import build_recipe
from toolchain.search.outcomes import RUNG, TrialOutcome, read_outcomes
from toolchain.search.proposal import SearchProposal
from toolchain.search.record import SearchRecord
from toolchain.search.result import make_record
from toolchain.search.rungs import next_promotion, search_points
from toolchain.search.space import SearchSpace, fit_epochs, fit_space
from toolchain.search.storage import (
    close_storage,
    explain_storage,
    hold_search,
    open_storage,
    open_study,
    storage_url,
    take_up_dead_trials,
)
from toolchain.search.structure import BuiltModel, SearchSite, make_model, rebuild_as
from toolchain.search.watch import SearchWatch

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)
BATCH_SIZE = TrainingOptions().batch_size  # a search's training steps say nothing else
EXHAUSTED = 50  # draws in a row of recipes that are known already
TRAINING_OVERHEAD = 2.0  # of a first look over its forward and backward passes: teacher, augmentation, export, accuracy
BUILD_S = "seconds of a build"


@dataclass(frozen=True)
class SearchRequest:
    """What `toolchain search` was given. folder: of the recipes; None: below home()."""

    path: Path
    target: str
    hours: float = 1.0
    max_accuracy_loss: float | None = None
    storage: str | None = None
    folder: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class SearchStart:
    """What there is before the first trial."""

    spec: SearchSpec
    base: RecipeBase
    site: SearchSite
    baseline: BuiltModel
    space: SearchSpace
    identity: dict[str, Any]


def search(request: SearchRequest) -> SearchRecord:
    """Search until the time is over; the room at fault raises its own error. AccuracyError is none: a floor that no
    recipe meets is told in the record."""
    if not 0 < request.hours < float("inf"):
        raise UsageError(f"--hours={request.hours:g}: expected more than 0")
    with report_error_once() as world, ExitStack() as stack:
        if world.size > 1:
            raise UsageError(
                "search runs in one process; start it several times with the same --storage=postgresql://… instead"
            )
        budget = SearchBudget(request.hours)
        url = storage_url(request.storage)
        storage = open_storage(url)
        stack.callback(close_storage, storage)
        job = read_job(request.path, request.target)
        alone = stack.enter_context(hold_search(url, job.recipe.name))
        start = _prepare(request, job)
        study = open_study(url, storage, job.recipe.name, start.identity)
        if alone and (dead := take_up_dead_trials(study)):
            logger.info(f"search: {dead} trial{'s' if dead > 1 else ''} of a process that was ended: taken up again")
        study.sampler = _sampler(start.spec, request.seed + len(study.get_trials(deepcopy=False)), alone)
        bundle = _build_baseline(start, study, budget)
        start = replace(start, baseline=rebuild_as(start.baseline, bundle.manifest.chosen))
        _plan_time(start, study, budget)
        with explain_storage(url):
            run_trials(start, study, budget)
        return make_record(
            start.base, start.site, study, bundle, budget, start.spec.front, start.space.left_out, url, job.threads
        )


def run_trials(start: SearchStart, study: "Study", budget: SearchBudget) -> None:
    """Trials while another one fits into the time, and the space has more."""
    epochs = start.base.epochs

    def points() -> Any:
        return search_points(read_outcomes(study), epochs)

    watch = SearchWatch(points, lambda: budget.left_s)
    runner = TrialRunner(
        study, start.base, start.space, start.site, start.baseline, reference_grades(start.baseline), watch
    )
    began = budget.elapsed_s
    with watch.showing():
        while runner.repeated < EXHAUSTED and _queue_next(start, study, budget):
            study.optimize(runner, n_trials=1)
        budget.working_s, budget.searching_s = runner.working_s, budget.elapsed_s - began
        if runner.repeated >= EXHAUSTED:
            logger.info(f"search: {EXHAUSTED} draws in a row were known already: the space has no more")


def _queue_next(start: SearchStart, study: "Study", budget: SearchBudget) -> bool:
    """Whether there is time for another trial; one that is to be trained further is queued first."""
    from optuna.trial import TrialState

    outcomes, epochs = read_outcomes(study), start.base.epochs
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if waiting:
        return budget.fits(budget.rung_s(outcomes, waiting[0].user_attrs.get(RUNG, 0), epochs))
    at_work = [_key_of(start.space, trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
    promoted = next_promotion(outcomes, len(epochs), start.spec.keep, start.base.floor, at_work)
    if promoted is not None and budget.fits(budget.rung_s(outcomes, promoted.rung + 1, epochs)):
        study.enqueue_trial(_params_of(study, promoted), user_attrs={RUNG: promoted.rung + 1})
        return True
    return budget.fits(budget.rung_s(outcomes, 0, epochs))


def _key_of(space: SearchSpace, trial: "FrozenTrial") -> tuple[str, int]:
    """The recipe and rung that a trial is at."""
    from optuna.trial import FixedTrial

    return space.suggest(FixedTrial(trial.params)).key, trial.user_attrs.get(RUNG, 0)


def _params_of(study: "Study", outcome: TrialOutcome) -> dict[str, Any]:
    return next(trial.params for trial in study.get_trials(deepcopy=False) if trial.number == outcome.trial)


def _prepare(request: SearchRequest, job: BuildJob) -> SearchStart:
    _require_searchable(job)
    folder = (request.folder or home() / "search" / job.recipe.name).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out={folder}: no recipes can be kept there: {error.strerror}; name a folder") from error
    site, spec = SearchSite(folder, request.target), job.recipe.search or SearchSpec()
    base, lines = _recipe_base(request, job, folder, spec)
    baseline = make_model(site.read(base.compose(None, 0)))
    if backend(job.target).stand_in(baseline.artifact.record) is not None:
        raise DeviceError(f"latency on target {job.target} is what search is about, and no such device is here")
    space = fit_space(
        spec, baseline.job, baseline.models[len(base.before)], LatencyMeter(job), folder, _fits(base, site)
    )
    lines += space.left_out
    space = replace(space, left_out=tuple(lines))
    for line in lines:
        logger.info(f"search: {line}")
    return SearchStart(spec, base, site, baseline, space, _identity(job, base, space, baseline))


def _recipe_base(request: SearchRequest, job: BuildJob, folder: Path, spec: SearchSpec) -> tuple[RecipeBase, list[str]]:
    recipe = relocate(job.recipe, job.base.absolute(), folder)
    before, quantize, lines = split_steps(recipe, str(job.path))
    images = len(job.data.split("train"))
    samples = min(Quantization().samples, images)
    loss = request.max_accuracy_loss
    floor = job.recipe.build.max_accuracy_loss if loss is None else loss
    epochs = fit_epochs(spec, images, BATCH_SIZE)
    return RecipeBase(recipe, before, {"samples": samples, **(quantize or {})}, epochs, floor), lines


def _fits(base: RecipeBase, site: SearchSite) -> Any:
    def takes_input(scale: float) -> str:
        try:
            make_model(site.read(base.compose_cut(SearchProposal(input_scale=scale), 1)))
        except ToolchainError as error:
            return str(error)
        return ""

    return takes_input


def _require_searchable(job: BuildJob) -> None:
    """What no recipe of this model, data or target could be judged on."""
    room = backend(job.target)
    if not room.COMPUTES:
        raise UsageError(f"--target={job.target}: computes nothing, so no recipe is faster than another; name another")
    if Path(job.recipe.model.source).suffix == ".onnx":
        raise RecipeError(
            f"{job.path}: model.source is an ONNX file, which cannot be cut or trained; give the model as "
            "path/file.py:function"
        )
    require_labels(job)


def _identity(job: BuildJob, base: RecipeBase, space: SearchSpace, baseline: BuiltModel) -> dict[str, Any]:
    """What two runs must have in common for their trials to compare."""
    device = fingerprint()
    known = {key: baseline.inputs[key] for key in ("files", "weights", "data", "tools")}
    return {
        "recipe": msgspec.to_builtins(msgspec.structs.replace(job.recipe, search=None)),
        "content": known,
        "search": {**asdict(replace(space, left_out=())), "epochs": list(base.epochs)},
        "max_accuracy_loss": base.floor,
        "target": job.target,
        "threads": job.threads,
        "device": {
            "cpu": device.cpu_model,
            "isa": list(device.cpu_isa),
            "cpus": device.cpus_allowed,
            "gpu": device.gpu,
        },
    }


def _sampler(spec: SearchSpec, seed: int, alone: bool) -> "BaseSampler":
    """seed: with the trials so far, so that a search that goes on draws no trial again; workers that share a study draw
    differently."""
    import optuna

    seed += 0 if alone else os.getpid()

    if spec.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def _build_baseline(start: SearchStart, study: "Study", budget: SearchBudget) -> Bundle:
    """The uncut net as the product builds it; what that takes is what a build at the end takes."""
    before = budget.elapsed_s
    plain = start.base.compose(None, 0)
    bundle = build_recipe(start.site, plain, "what toolchain search holds its recipes against")
    took = max(budget.elapsed_s - before, study.user_attrs.get(BUILD_S, 0.0))
    study.set_user_attr(BUILD_S, took)
    budget.build_s, budget.builds = took, start.spec.front
    return bundle


def _plan_time(start: SearchStart, study: "Study", budget: SearchBudget) -> None:
    """UsageError where not even one trial fits. What earlier runs spent counts."""
    outcomes, job = read_outcomes(study), start.baseline.job
    budget.spent_s = sum(outcome.seconds for outcome in outcomes)
    if outcomes:
        return
    module, images = load_staged(job, start.baseline.models[0]).module, len(job.data.split("train"))
    epoch_s = measure_epoch_s(module, job.recipe.input, images, BATCH_SIZE)
    quantized = 2 if "qat" in start.space.quantization else 1  # which is trained again for it
    budget.first_s = TRAINING_OVERHEAD * quantized * start.base.epochs[0] * epoch_s
    if not budget.fits(budget.first_s):
        needed = (budget.elapsed_s + budget.builds * budget.build_s + 2 * budget.first_s) / 3600
        raise UsageError(
            f"--hours={budget.hours:g}: too little for one trial, which takes about {format_duration(budget.first_s)}, "
            f"and {budget.builds} builds at the end of {format_duration(budget.build_s)} each; give at least "
            f"--hours={max(needed, 0.01):.2f}, or lower search.epochs or search.front"
        )
