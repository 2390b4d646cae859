"""The step report: what each step promised, what was measured of it on the target, and whether the build goes on.

Knows which model each row is and what it is held to; the verdicts are step_verdict.py's, the figures
step_benchmark.py's.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from deploy.runtime.device.probe import fingerprint
from toolchain.backends import backend
from toolchain.build.artifacts import StepArtifacts, build_step_artifacts
from toolchain.build.dry_run_timing import time_dry_run
from toolchain.build.step_benchmark import StepFigures, Subject, measure_all
from toolchain.build.step_verdict import StepCriteria, StepRow, StepVerdict, is_refused, judge_steps
from toolchain.build.steps import last_trained
from toolchain.compress import POST_EXPORT_STEPS
from toolchain.compress.properties import is_training
from toolchain.errors import DeviceError, RefusedError
from toolchain.records.manifest import StepRecord
from toolchain.records.output import OutputKind
from toolchain.views.steps import steps_page

if TYPE_CHECKING:
    from toolchain.build.artifacts import Artifact
    from toolchain.build.candidates import CandidateEvaluation
    from toolchain.build.reference import Reference
    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.build.trained_model import Model, ModelInputs
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache
logger = logging.getLogger(__name__)


def report_steps(
    job: "BuildJob",
    cache: "StageCache",
    inputs: "ModelInputs",
    models: "tuple[Model, ...]",
    reference: "Reference",
    candidates: "tuple[Artifact, ...]",
    evaluation: "CandidateEvaluation | None",
) -> tuple[StepRecord, ...]:
    """Every step with what it promised and what was measured of it. RefusedError where one does not pay and the recipe
    refuses that. evaluation: what is known of `candidates` already; None, where none was good enough: the table is
    logged, since the build ends there."""
    if not models:
        return ()
    artifacts = build_step_artifacts(job, cache, inputs, models, candidates)
    subjects = name_subjects(job, artifacts, reference.output)
    title = "steps: latency, accuracy and memory on this machine"
    figures = measure_all(cache, title, subjects, _known_figures(subjects, candidates, evaluation))
    keys = {name: artifact.key for name, (_, artifact, _) in subjects.items()}
    figures = replace_refused(keys, figures, candidates, evaluation)
    records, verdicts = judge_models(models, artifacts, figures, criteria_for(job, reference, models))
    if evaluation is None:
        logger.info(steps_page(records, job.target, "accuracy"))
    else:
        _refuse(job, records, verdicts)
    return records


def name_subjects(
    job: "BuildJob", artifacts: StepArtifacts, output: OutputKind, prefix: str = ""
) -> dict[str, Subject]:
    """The artifacts that there are, by row."""
    return {
        f"{prefix}{number:03}": (job, artifact, output)
        for number, artifact in enumerate(artifacts)
        if not isinstance(artifact, str)
    }


def criteria_for(job: "BuildJob", reference: "Reference", models: "tuple[Model, ...]") -> StepCriteria:
    """What the recipe holds its steps to. A model that came untrained, or with other classes, is judged from its last
    training on; accuracies before that are only reported."""
    return StepCriteria(
        prefer=job.recipe.build.prefer,
        reference=reference.accuracy,
        max_loss=job.recipe.build.max_accuracy_loss,
        judged_from=last_trained(models) if models and reference.after_training else 0,
        lanes=_lanes(),
        computes=backend(job.target).COMPUTES,
    )


def judge_models(
    models: "tuple[Model, ...]",
    artifacts: StepArtifacts,
    figures: Mapping[str, StepFigures],
    criteria: StepCriteria,
    prefix: str = "",
) -> tuple[tuple[StepRecord, ...], tuple[StepVerdict, ...]]:
    """Each step's record with what was measured of it, and the verdicts."""
    rows = tuple(
        _row(model, StepFigures(absent=artifact) if isinstance(artifact, str) else figures[f"{prefix}{number:03}"])
        for number, (model, artifact) in enumerate(zip(models, artifacts, strict=True))
    )
    verdicts = judge_steps(rows, criteria)
    records = (model.record.step for model in models)
    return tuple(_with_verdict(*each) for each in zip(records, rows, verdicts, strict=True)), verdicts


def refuse_before_training(job: "BuildJob", cache: "StageCache", original: "Model", meter: "LatencyMeter") -> None:
    """What is slower already in the shapes that the steps lead to is refused before hours of training are spent."""
    build = job.recipe.build
    trains = any(is_training(step) for _, step in job.steps)
    if not (build.refuse and build.prefer == "latency" and backend(job.target).COMPUTES and trains):
        return
    try:
        rows = time_dry_run(job, cache, original, meter)
    except DeviceError as error:
        logger.info(f"  nothing is refused before training: {error}")
        return
    verdicts = judge_steps(rows, StepCriteria(lanes=_lanes()))
    bare = (StepRecord(row.step, row.options, 0, row.macs, 0, None, 0.0, (), row.sparsity) for row in rows)
    _refuse(job, tuple(_with_verdict(*each) for each in zip(bare, rows, verdicts, strict=True)), verdicts)


def _refuse(job: "BuildJob", records: Sequence[StepRecord], verdicts: Sequence[StepVerdict]) -> None:
    """RefusedError, after the table, for the first step that does not pay, where the recipe says so. A step that only
    makes another candidate stops nothing: that candidate is not chosen."""
    if not job.recipe.build.refuse:
        return
    for number, ((name, _), verdict) in enumerate(zip(job.steps, verdicts[1:], strict=True), 1):
        if verdict.pays is False and name not in POST_EXPORT_STEPS:
            logger.info(steps_page(records, job.target, "accuracy"))
            raise RefusedError(
                f"{job.path}: step {number}, {name}: {verdict.sentence}; "
                "change or remove the step, or set refuse = false under [build]"
            )


def replace_refused(
    keys: Mapping[str, str],
    figures: Mapping[str, StepFigures],
    candidates: "tuple[Artifact, ...]",
    evaluation: "CandidateEvaluation | None",
) -> dict[str, StepFigures]:
    """The figures, with the reason in place of a verdict where the row's artifact is a candidate that may not serve for
    its answers: the step cannot pay then, however fast it is. keys: of the rows' artifacts."""
    verdicts = {each.precision: each.verdict for each in evaluation.candidates} if evaluation else {}
    refused = {
        artifact.key: verdicts[artifact.record.precision]
        for artifact in candidates
        if is_refused(verdicts.get(artifact.record.precision, ""))
    }
    return {
        name: msgspec.structs.replace(figure, absent=refused.get(keys[name], figure.absent))
        for name, figure in figures.items()
    }


def _known_figures(
    subjects: Mapping[str, Subject], candidates: "tuple[Artifact, ...]", evaluation: "CandidateEvaluation | None"
) -> dict[str, StepFigures]:
    """The candidates' figures, for the rows that are candidates too."""
    by_precision = {candidate.precision: candidate for candidate in evaluation.candidates} if evaluation else {}
    measured = {artifact.key: by_precision.get(artifact.record.precision) for artifact in candidates}
    known = {name: measured.get(artifact.key) for name, (_, artifact, _) in subjects.items()}
    return {name: StepFigures(each.latency_ms, each.accuracy) for name, each in known.items() if each is not None}


def _row(model: "Model", figures: StepFigures) -> StepRow:
    step = model.record.step
    known = {**msgspec.structs.asdict(model.record.facts), **msgspec.structs.asdict(figures)}
    return StepRow(step=step.step, macs=step.macs, options=step.options, sparsity=step.sparsity, **known)


def _with_verdict(record: StepRecord, row: StepRow, verdict: StepVerdict) -> StepRecord:
    return msgspec.structs.replace(
        record,
        precision=row.precision,
        predicted_speedup=verdict.predicted,
        measured_speedup=verdict.measured,
        latency_ms=row.latency_ms,
        accuracy=row.accuracy,
        artifact_bytes=row.artifact_bytes,
        memory_bytes=row.memory_bytes,
        verdict=verdict.sentence,
    )


def _lanes() -> int:
    """fp32 numbers in one vector of this CPU."""
    isa = fingerprint().cpu_isa
    return 16 if "avx512f" in isa else 8 if "avx2" in isa else 4
