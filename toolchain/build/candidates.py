"""The candidates on this machine: do they answer as torch does, how well, how fast, and which one serves.

Knows which answers are compared with which; parity/ knows how, choose.py knows what is chosen.
"""

import logging
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import copy2, rmtree
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.runtime.device.probe import fingerprint
from deploy.runtime.engines import Settings, open_engine
from toolchain.accuracy.quality import Quality
from toolchain.backends import backend
from toolchain.build.artifacts import Artifact
from toolchain.build.choose import CandidateChoice, choose, measure_candidates
from toolchain.build.onnx_graph import ONNX, Graph
from toolchain.build.step_verdict import DIFFERS, OTHER_ANSWER, OTHER_LABELS
from toolchain.build.trained_model import Model, load_staged, load_trained_model
from toolchain.errors import BackendError, DeviceError
from toolchain.export import ort_logits, torch_logits
from toolchain.job.advice import accuracy_advice
from toolchain.job.samples import trial_images
from toolchain.job.stage import Stage
from toolchain.models.onnx_file.runner import original_scores
from toolchain.parity import Original, compare_three_ways, require_parity
from toolchain.records.manifest import Candidate, ParityRecord, Precision
from toolchain.records.output import OutputKind
from toolchain.records.storage import digest_of

if TYPE_CHECKING:
    from toolchain.build.reference import Reference
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)

BATCH_ENDS = (1, 4, 12, 44)  # batches of 1, 3, 8, 32, and the rest
Artifacts = tuple[Artifact, ...]
LOSS = r"(?:loses ([\d.]+) points|([\d.]+) points lost)"


class CandidateEvaluation(msgspec.Struct, frozen=True):
    """All candidates with their figures and verdicts, and how the engines' answers compare with torch's. output: what
    those say; measure: what their accuracy is called; quality: by precision, where there is a labelled test split."""

    candidates: tuple[Candidate, ...]
    chosen: Precision
    choice: str
    parity: tuple[ParityRecord, ...]
    output: OutputKind
    measure: str
    quality: dict[str, Quality] = {}


def evaluate_candidates(
    job: "BuildJob",
    cache: "StageCache",
    model: Model | None,
    graph: Graph,
    artifacts: Artifacts,
    reference: "Reference",
) -> CandidateEvaluation:
    """All of `artifacts` compared, measured and one chosen. model: what torch answers with; None: it came as a graph,
    and the user's own file answers.

    A candidate that answers otherwise than the model is refused by name; ParityError when none is left, AccuracyError
    when none is accurate enough.
    """

    def make(_: Path, work: Path) -> CandidateEvaluation:
        return _evaluate(job, model, graph, artifacts, reference.accuracy, work)

    inputs = {
        "artifacts": [artifact.key for artifact in artifacts],
        "data": job.data.sha256,
        "reference": reference.accuracy,
        "loss": job.recipe.build.max_accuracy_loss,
        "threads": job.threads,
        "device": msgspec.to_builtins(fingerprint()),
    }
    title = "candidates: parity, accuracy and latency on this machine"
    return cache.run(Stage("candidates", title, CandidateEvaluation, inputs, make)).record


def _evaluate(
    job: "BuildJob", model: Model | None, graph: Graph, artifacts: Artifacts, reference: float | None, work: Path
) -> CandidateEvaluation:
    """Of an engine that computes nothing (null) only the latency is judged."""
    room, images = backend(job.target), trial_images(job.data)
    here = tuple(replace(artifact, record=room.stand_in(artifact.record) or artifact.record) for artifact in artifacts)
    is_elsewhere = here != artifacts
    if is_elsewhere:
        logger.info(f"  no device for {job.target} here: ONNX Runtime answers, nothing is timed")
    folder, settings = gather_files(here, work / "candidates"), Settings(job.threads)
    learned = artifacts[0].record.precision if job.plan.learned is not None else None
    answers = _answers(folder, here, settings, images) if room.COMPUTES else {}
    original, expected = _original_answers(job, model, images, learned or "fp32")
    by_onnx = ort_logits(graph.folder / ONNX, images, as_written=learned is not None)
    # elsewhere, ONNX Runtime answered for the graph
    engine = f"{job.target}'s graph" if is_elsewhere else job.target
    parity = compare_three_ways(original, expected, by_onnx, answers, engine, graph.record)
    differing = {
        precision for precision in answers for row in parity if row.candidate.endswith(precision) and not row.passed
    }
    if len(differing) == len(answers) or not all(row.passed for row in parity if row.candidate.startswith("onnx")):
        require_parity(parity)
    agreeing = tuple(artifact.record for artifact in here if artifact.record.precision not in differing)
    test = job.data.split("test")
    labelled = test if room.COMPUTES and len(test) else None
    quality: dict[str, Quality] = {}
    measured = measure_candidates(
        folder,
        agreeing,
        labelled,
        settings,
        images,
        learned or "fp32",
        timed=not is_elsewhere,
        output=graph.record,
        quality=quality,
    )
    measure = graph.record.measure(by_onnx.shape[1])
    choice = choose(
        tuple(_with_figures(candidate, artifacts) for candidate in measured),
        reference if labelled else None,
        job.recipe.build.max_accuracy_loss,
        job.recipe.build.prefer,
        measure,
        accuracy_advice(job.recipe, job.steps),
    )
    if room.COMPUTES and labelled is None:
        choice = reword_without_accuracy(choice, measure)
    return CandidateEvaluation(
        candidates=(*choice.candidates, *_refuse_differing(artifacts, differing)),
        chosen=choice.chosen,
        choice=choice.sentence
        if room.COMPUTES
        else f"{choice.chosen}: {job.target} computes nothing, timing alone counts",
        parity=parity,
        output=graph.record,
        measure=measure,
        quality=quality,
    )


def _refuse_differing(artifacts: Artifacts, differing: Collection[str]) -> tuple[Candidate, ...]:
    return tuple(
        msgspec.structs.replace(artifact.record, verdict=f"{DIFFERS}answers otherwise than the model, see parity")
        for artifact in artifacts
        if artifact.record.precision in differing
    )


def _original_answers(
    job: "BuildJob", model: Model | None, images: NDArray[np.uint8], precision: Precision
) -> tuple[Original, NDArray[np.float32]]:
    """What the model answers before any conversion."""
    if model is not None:
        return Original("torch", precision), torch_logits(load_staged(job, model).module, job.recipe.input, images)
    source = load_trained_model(job).require_graph()
    answers = original_scores(source, job.recipe.input, images)
    return Original(source.path.name, "fp16" if source.half else "fp32"), answers


def reword_without_accuracy(choice: CandidateChoice, measure: str) -> CandidateChoice:
    """The same choice in words that claim no accuracy: without labels, candidates were held to fp32's answers."""
    is_top1 = measure == "top-1"
    other = rf"{OTHER_ANSWER} for \1\2 % of images" if is_top1 else rf"{OTHER_LABELS}: \1\2 points of {measure}"
    words = {"accuracy threshold": "agreement threshold", LOSS: other, "nothing lost": f"the same {measure}"}

    def reword(text: str) -> str:
        for pattern, replacement in words.items():
            text = re.sub(pattern, replacement, text)
        return text

    candidates = (msgspec.structs.replace(each, verdict=reword(each.verdict)) for each in choice.candidates)
    return CandidateChoice(tuple(candidates), choice.chosen, f"{reword(choice.sentence)}; accuracy is not known")


def _with_figures(measured: Candidate, artifacts: Artifacts) -> Candidate:
    """The candidate itself, with what was measured of it or of what stood in for it."""
    own = next(artifact.record for artifact in artifacts if artifact.record.precision == measured.precision)
    return msgspec.structs.replace(
        own,
        accuracy=measured.accuracy,
        latency_ms=measured.latency_ms,
        verdict=measured.verdict,
        options={**own.options, **measured.options},
    )


def gather_files(artifacts: Artifacts, folder: Path) -> Path:
    """All candidates' files in one folder, as they will lie in the bundle; a shared file must be the same file."""
    rmtree(folder, ignore_errors=True)  # an interrupted run may have left half a file there
    folder.mkdir(parents=True)
    for artifact in artifacts:
        for name in artifact.record.files:
            source, target = artifact.folder / name, folder / name
            if target.exists() and digest_of(target) != digest_of(source):
                precision = artifact.record.precision
                raise BackendError(f"{precision}: {name} differs from another candidate's file of that name")
            copy2(source, target)
    return folder


def engine_answers(
    folder: Path, candidate: Candidate, settings: Settings, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The engine's answers [N, classes], in batches of several sizes: each may be computed otherwise."""
    with open_engine(folder, candidate, settings) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        batches = np.split(images, [at for at in BATCH_ENDS if at < len(images)])
        return np.concatenate([engine.infer({name: batch})[output] for batch in batches])


def _answers(
    folder: Path, artifacts: Artifacts, settings: Settings, images: NDArray[np.uint8]
) -> dict[Precision, NDArray[np.float32]]:
    """Each precision's answers; one that this machine cannot run is left out, and named where it is measured."""
    answers: dict[Precision, NDArray[np.float32]] = {}
    for artifact in artifacts:
        with suppress(DeviceError):
            answers[artifact.record.precision] = engine_answers(folder, artifact.record, settings, images)
    return answers
