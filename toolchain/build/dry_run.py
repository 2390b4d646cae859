"""The steps before they are run, and the export of what they lead to: untrained, to refuse what cannot work.

Knows nothing of how long training takes or what it is worth.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.backends import backend
from toolchain.build.steps import context_for, measures, step_inputs
from toolchain.build.trained_model import Model, load_staged
from toolchain.compress import check_steps
from toolchain.compress.properties import is_training
from toolchain.errors import BackendError, ExportError
from toolchain.export import check_onnx, has_qat_layers, onnx_from_torch, ort_logits
from toolchain.failures import explain_failure
from toolchain.job.samples import trial_images
from toolchain.job.stage import Stage, tool_versions
from toolchain.models.failing_layer import find_failing_layer

if TYPE_CHECKING:
    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.compress.step import CompressedModel
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)
EXPORTED_IMAGES = 3  # run through the untrained graph, in batches of 1 and 2


def dry_run_steps(job: "BuildJob", cache: "StageCache", original: Model, meter: "LatencyMeter") -> None:
    """Everything that a step would refuse is refused now, before any of them trains: RecipeError."""

    def make(_: Path, work: Path) -> bool:
        return bool(dry_run(job, original, meter, work))

    uses = (meter,) if any(measures(step) for _, step in job.steps) else ()
    cache.run(Stage("dry-run", "steps: dry run", bool, dry_run_inputs(job, original, meter), make, uses))


def dry_run_inputs(job: "BuildJob", original: Model, meter: "LatencyMeter") -> dict[str, object]:
    return {"before": original.key, "steps": [[name, step_inputs(job, step, meter)] for name, step in job.steps]}


def dry_run(job: "BuildJob", original: Model, meter: "LatencyMeter", work: Path) -> "tuple[CompressedModel, ...]":
    context = context_for(job, original, meter, work)
    return check_steps(job.steps, load_staged(job, original), context, str(job.path))


def dry_run_export(job: "BuildJob", cache: "StageCache", original: Model, meter: "LatencyMeter") -> None:
    """Export the untrained model that the steps lead to, run it, and show it to the target's engine: what would fail
    after training is refused before it. ExportError, BackendError. Without training the export itself comes next."""
    if not any(is_training(step) for _, step in job.steps):
        return

    def make(_: Path, work: Path) -> float:
        began = time.monotonic()
        _export(job, dry_run(job, original, meter, work)[-1], work)
        return time.monotonic() - began

    inputs = {
        **dry_run_inputs(job, original, meter),
        "target": job.target,
        "options": job.recipe.target.get(job.target, {}),
        "tools": tool_versions("onnx", "onnxscript", "onnxruntime", "torch", "openvino", "tensorrt-rtx-cu13-libs"),
    }
    kept = cache.run(Stage("dry-run-export", "export: dry run before training", float, inputs, make))
    logger.info(f"  can be exported to {job.target}: known in {kept.record:.1f} s, before training")


def _export(job: "BuildJob", model: "CompressedModel", work: Path) -> None:
    module, shape, path = model.module, job.recipe.input, work / "dry-run.onnx"
    images = trial_images(job.data)[:EXPORTED_IMAGES]
    cure = "change the model there, or give it as an ONNX file"
    try:
        with explain_failure(ExportError, "the model cannot be exported", cure, find_failing_layer):
            onnx_from_torch(module, shape, path)
            if has_qat_layers(module):  # grids that are not learned yet round to anything
                ort_logits(path, images)
            else:
                check_onnx(path, module, shape, images)
        with explain_failure(BackendError, f"target {job.target}", "choose another --target"):
            backend(job.target).check(path, job.recipe.target.get(job.target, {}))
    finally:
        path.unlink(missing_ok=True)
