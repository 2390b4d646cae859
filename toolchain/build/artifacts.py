"""The ONNX graph -> what the target's engine runs, in one precision; calibrated on the train split alone.

Knows what an artifact depends on; how it is built each back end knows.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from toolchain.backends import Calibration, Rounding, backend
from toolchain.build.onnx_graph import ONNX, Graph, export_graph
from toolchain.build.trained_model import Model, ModelInputs, module_key
from toolchain.errors import BackendError
from toolchain.failures import explain_failure
from toolchain.job.samples import calibration_images, golden_images, validation_images
from toolchain.job.stage import Stage, StageResult, tool_versions
from toolchain.records.manifest import FLOAT_LAYERS, Candidate, Precision
from toolchain.records.output import OutputKind

if TYPE_CHECKING:
    from toolchain.compress.step import Quantization
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)

Artifact = StageResult[Candidate]  # the candidate's files lie in its folder
StepArtifacts = tuple[Artifact | str, ...]  # of each model, or why there is none


def build_artifact(job: "BuildJob", cache: "StageCache", graph: Graph, precision: Precision) -> Artifact:
    """`graph` in `precision` for the job's target."""
    room, how, rounding = (
        backend(job.target),
        job.plan.quantization_for(precision),
        job.plan.rounding_for(precision),
    )
    small, options = job.recipe.build.prefer == "size", job.recipe.target.get(job.target, {})

    def make(folder: Path, _: Path) -> Candidate:
        calibration = None if how is None else _calibration(job, how, graph.record)
        if calibration is None and precision in room.NEEDS_IMAGES:
            calibration = Calibration(golden_images(job.calibration))
        weights = None if rounding is None else Rounding(*msgspec.structs.astuple(rounding))
        onnx = graph.folder / ONNX
        cure = f"build without {precision}: `precisions` under [build], or choose another --target"
        with explain_failure(BackendError, f"target {job.target}, {precision}", cure):
            made = room.build(onnx, folder, precision, calibration, weights, small, options)
            predicted = room.predict_saturation(onnx, folder, made, lambda: golden_images(job.calibration))
        return msgspec.structs.replace(made, saturation=predicted)

    inputs = {
        "onnx": graph.key,
        "target": job.target,
        "precision": precision,
        "quantization": msgspec.to_builtins(how),
        "rounding": msgspec.to_builtins(rounding),
        "small": small,
        "options": options,
        "pictures": job.calibration.sha256 if how or precision in room.NEEDS_IMAGES else "",
        "checked": job.data.sha256 if how and how.max_drop is not None else "",
        "tools": tool_versions("openvino", "nncf", "onnxruntime", "tensorrt-rtx-cu13-libs", "nvidia-modelopt"),
    }
    name, title = f"{job.target}-{precision}", f"{job.target}: {precision}"
    artifact = cache.run(Stage(name, title, Candidate, inputs, make))
    log_saturation(artifact.record)
    if how is not None and how.max_drop is not None:
        left = artifact.record.options.get(FLOAT_LAYERS, 0.0)
        logger.info(f"  {precision}: {left:.0f} layers left in float to lose at most {how.max_drop:g} points")
    return artifact


def log_saturation(candidate: Candidate) -> None:
    """Which layers would saturate on a CPU without VNNI, how often and by how much."""
    predicted = candidate.saturation
    if predicted is None:
        return
    if predicted.is_excluded:
        logger.info(f"  {candidate.precision}: its sums cannot exceed 16 bits: exact on CPUs without VNNI too")
        return
    logger.info(f"  {candidate.precision}: on CPUs without VNNI its sums stop at 16 bits in {predicted.describe(5)}")


def build_step_artifacts(
    job: "BuildJob",
    cache: "StageCache",
    inputs: ModelInputs,
    models: tuple[Model, ...],
    candidates: tuple[Artifact, ...] = (),
) -> StepArtifacts:
    """Each of `models` built for the target in the precision that its step is about, or why it is not. candidates:
    those of the last model that are there already."""
    known = {(module_key(models[-1]), artifact.record.precision): artifact for artifact in candidates}

    def build(model: Model) -> Artifact | str:
        precision = model.record.facts.precision
        if precision != "fp32" and precision not in job.precisions:
            return f"not used: no {precision} among the precisions for {job.target}"
        key = module_key(model), precision
        if key not in known:
            known[key] = build_artifact(job, cache, export_graph(job, cache, inputs, model), precision)
        return known[key]

    return tuple(build(model) for model in models)


def _calibration(job: "BuildJob", how: "Quantization", output: OutputKind) -> Calibration:
    """The images that `how` needs: none for ranges that are found for each image, labelled ones to measure a drop."""
    ways: dict[str, Any] = {"preset": how.preset, "bias_correction": how.bias_correction, "smooth": how.smooth}
    ways |= {"per_channel": how.per_channel, "ignore": how.ignore, "max_drop": how.max_drop}
    if how.dynamic:
        return Calibration(np.zeros((0, *job.recipe.input.shape), np.uint8), **ways)
    images, _ = calibration_images(job.calibration, how.samples, job.recipe.build.seed)
    checked = None if how.max_drop is None else validation_images(job.data)
    return Calibration(images, validation=checked, output=output, **ways)
