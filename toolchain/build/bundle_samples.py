"""The images that travel in a bundle: golden inputs with each candidate's answers, and the certificate's own sample.

A stage of its own: an engine need not give the same bytes twice, and an unchanged build must end with the same bundle.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from deploy.runtime.engines import Settings
from toolchain.backends import backend
from toolchain.build.candidates import Artifacts, CandidateEvaluation, engine_answers, gather_files
from toolchain.build.choose import answers_here
from toolchain.job.samples import calibration_images, certificate_images, golden_images
from toolchain.job.stage import Stage, StageResult
from toolchain.records.bundle import CERTIFY, SAMPLE
from toolchain.records.manifest import Candidate, DataRecord
from toolchain.records.output import OutputKind

if TYPE_CHECKING:
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache


class BundleSamples(msgspec.Struct, frozen=True):
    """certify_accuracy: what each candidate that runs here gets right of certify.npz, the figure that a device must
    reproduce; empty where the data has no such images. outputs: how many scores an image gets."""

    data: DataRecord
    certify_accuracy: dict[str, float]
    outputs: int


def write_samples(
    job: "BuildJob", cache: "StageCache", artifacts: Artifacts, evaluation: CandidateEvaluation
) -> StageResult[BundleSamples]:
    """The folder of sample.npz and certify.npz (where the data has labelled images for it)."""
    answering = [candidate.precision for candidate in evaluation.candidates if answers_here(candidate)]

    def make(folder: Path, work: Path) -> BundleSamples:
        room = backend(job.target)
        able = tuple(
            replace(artifact, record=room.stand_in(artifact.record) or artifact.record)
            for artifact in artifacts
            if artifact.record.precision in answering
        )
        files, candidates = gather_files(able, work / "candidates"), [artifact.record for artifact in able]
        outputs = _write_golden(job, candidates, files, folder)
        indices, accuracy = _write_certify(job, candidates, files, folder, evaluation.output)
        return BundleSamples(_data_record(job, evaluation, indices), accuracy, outputs)

    inputs = {
        "artifacts": [artifact.key for artifact in artifacts],
        "chosen": evaluation.chosen,
        "able": answering,
        "data": job.data.sha256,
        "pictures": job.calibration.sha256,
        "quantization": job.plan.post_training,
        "roundings": job.plan.roundings,
        "threads": job.threads,
    }
    title = "samples: golden samples, and the certificate's images"
    return cache.run(Stage("samples", title, BundleSamples, inputs, make))


def _write_golden(job: "BuildJob", candidates: Sequence[Candidate], files: Path, folder: Path) -> int:
    """How many outputs an answer has."""
    settings, images = Settings(job.threads), golden_images(job.calibration)
    answers = {f"outputs_{each.precision}": engine_answers(files, each, settings, images) for each in candidates}
    np.savez(folder / SAMPLE, allow_pickle=False, inputs=images, **answers)
    return int(next(iter(answers.values())).shape[1])


def _write_certify(
    job: "BuildJob", candidates: Sequence[Candidate], files: Path, folder: Path, output: OutputKind
) -> tuple[tuple[int, ...], dict[str, float]]:
    """The images' indices in the data, and what each candidate gets right of them, by precision."""
    images, labels, indices = certificate_images(job.data)
    if not len(images):
        return indices, {}
    classes = np.array(job.data.classes, np.str_)
    np.savez(folder / CERTIFY, allow_pickle=False, images=images, labels=labels, classes=classes)
    answers = {each.precision: engine_answers(files, each, Settings(job.threads), images) for each in candidates}
    return indices, {precision: float(output.grade(scores, labels).mean()) for precision, scores in answers.items()}


def _data_record(job: "BuildJob", evaluation: CandidateEvaluation, certify: tuple[int, ...]) -> DataRecord:
    calibrated = _calibration_indices(job, evaluation)
    return DataRecord(
        job.data.name,
        job.data.source,
        job.data.sha256,
        job.calibration.name if calibrated else "",
        calibrated,
        "train" if certify else "",
        certify,
    )


def _calibration_indices(job: "BuildJob", evaluation: CandidateEvaluation) -> tuple[int, ...]:
    """The indices that an int8 candidate was calibrated on; none where none was made."""
    how = job.plan.post_training
    if how is None or how.dynamic or all(candidate.precision != "int8" for candidate in evaluation.candidates):
        return ()
    return calibration_images(job.calibration, how.samples, job.recipe.build.seed)[1]
