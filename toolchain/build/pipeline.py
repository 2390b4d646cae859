"""The build on one page: a recipe and a target go in, a bundle comes out.

    data -> model -> steps -> ONNX -> artifacts -> measured and compared -> chosen -> bundle

Every stage is kept by the digest of its inputs, options and code, so that an unchanged build takes seconds and an
interrupted one goes on. Knows the order of the stages; each stage's module knows what it depends on and does.
"""

import logging
from pathlib import Path

from toolchain.accuracy.kept import evaluation_folder, keep_evaluation
from toolchain.build.artifacts import build_artifact
from toolchain.build.dry_run import dry_run_steps
from toolchain.build.dry_run_timing import dry_run_export
from toolchain.build.onnx_graph import export_graph
from toolchain.build.reference import (
    Reference,
    check_transform,
    reference_after_training,
    reference_as_loaded,
    require_accuracy,
)
from toolchain.build.step_benchmark import LatencyMeter
from toolchain.build.step_report import refuse_before_training, report_steps
from toolchain.build.steps import last_trained, run_steps
from toolchain.build.trained_model import Model, ModelInputs, model_inputs, trained_model
from toolchain.errors import AccuracyError
from toolchain.job.data_lines import report_data
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.job import BuildJob, read_job
from toolchain.job.milestones import begin_stage, count_stages
from toolchain.job.stage_cache import StageCache
from toolchain.paths import home
from toolchain.records.bundle import Bundle

logger = logging.getLogger(__name__)

STAGES = 6  # recipe and data, model, steps, export, candidates, bundle


def build(path: Path, target: str, release: str | None, text: str | None = None) -> Bundle:
    """Build the recipe at `path` for `target` into a bundle below home(); the room at fault raises its own error. text:
    see read_job()."""
    from toolchain.build.bundle import check_release, make_bundle
    from toolchain.build.bundle_samples import write_samples
    from toolchain.build.candidates import evaluate_candidates
    from toolchain.compress.distributed import leave_process_group, report_error_once

    with report_error_once() as world, count_stages(STAGES):
        check_release(release)
        begin_stage("recipe and data")
        job = read_job(path, target, text)
        cache = cache_for(job)
        inputs = model_inputs(job)
        if not world.is_first:
            _take_part(job, DistributedStageCache(cache, world), inputs)
            leave_process_group(world)  # this process ends
        report_data(job, cache)
        check_transform(job, cache, inputs)
        models, reference = compress(job, DistributedStageCache(cache, world), inputs)
        leave_process_group(world)
        begin_stage("export to ONNX")
        graph = export_graph(job, cache, inputs, models[-1] if models else None)
        begin_stage(f"candidates for {target}: {', '.join(job.precisions)}")
        artifacts = tuple(build_artifact(job, cache, graph, precision) for precision in job.precisions)
        try:
            evaluation = evaluate_candidates(job, cache, models[-1] if models else None, graph, artifacts, reference)
        except AccuracyError:
            report_steps(job, cache, inputs, models, reference, artifacts, None)
            raise
        steps = report_steps(job, cache, inputs, models, reference, artifacts, evaluation)
        logger.info(f"chosen: {evaluation.choice}")
        begin_stage("bundle")
        samples = write_samples(job, cache, artifacts, evaluation)
        bundle = make_bundle(job, artifacts, reference, steps, evaluation, samples, release)
        place = evaluation_folder(home(), bundle.digest)
        keep_evaluation(place, job.data, reference.labels, evaluation.quality, evaluation.chosen)
        return bundle


def cache_for(job: BuildJob) -> StageCache:
    return StageCache(home() / "cache", job.recipe.build.seed)


def compress(job: BuildJob, cache: DistributedStageCache, inputs: ModelInputs) -> tuple[tuple[Model, ...], Reference]:
    """The model as it came and after each step (none for one that came as a graph), and what the release is held
    against."""
    begin_stage("model: its accuracy as it came")
    reference = reference_as_loaded(job, cache.local, inputs)
    require_accuracy(job, reference)
    original = trained_model(job, cache, inputs)
    if original is None:
        begin_stage("steps: of the exported graph only")
        return (), reference
    meter = LatencyMeter(job)
    begin_stage("steps: " + (", ".join(name for name, _ in job.steps) or "none"))
    dry_run_steps(job, cache.local, original, meter)
    dry_run_export(job, cache.local, original, meter)
    refuse_before_training(job, cache.local, original, meter)
    models = run_steps(job, cache, original, meter)
    reference = reference_after_training(job, cache.local, models[last_trained(models)], reference)
    require_accuracy(job, reference)
    return models, reference


def _take_part(job: BuildJob, cache: DistributedStageCache, inputs: ModelInputs) -> None:
    """What a process that is not the first does under torchrun: help with the model and the steps."""
    if (original := trained_model(job, cache, inputs)) is not None:
        run_steps(job, cache, original, LatencyMeter(job))
