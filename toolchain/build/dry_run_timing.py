"""The models of a dry run exported and timed on the target: what the target would not take, or what is slower already
in its new shape, need not be trained.

Knows nothing of accuracy: only training tells that.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.backends import backend
from toolchain.build.dry_run import dry_run, dry_run_inputs
from toolchain.build.step_verdict import StepRow
from toolchain.build.trained_model import Model
from toolchain.compress.metrics import macs, sparsity
from toolchain.compress.properties import has_approximate_dry_run, is_training, properties_of
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
Rows = tuple[StepRow, ...]
EXPORTED_IMAGES = 3  # run through the untrained graph, in batches of 1 and 2


def time_dry_run(job: "BuildJob", cache: "StageCache", original: Model, meter: "LatencyMeter") -> Rows:
    """A row for the model as it came and after each step, untrained. DeviceError where no such device is here."""

    def make(_: Path, work: Path) -> Rows:
        return _timed_rows(job, dry_run(job, original, meter, work), meter)

    inputs = {**dry_run_inputs(job, original, meter), **meter.inputs}
    return cache.run(Stage("dry-run-time", "steps: dry run timed on the target", Rows, inputs, make, (meter,))).record


def _timed_rows(job: "BuildJob", nets: "Sequence[CompressedModel]", meter: "LatencyMeter") -> Rows:
    """Models that are computed in fp32 are timed, up to the first whose real widths only its training can tell;
    training alone changes no speed."""
    steps = (None, *(step for _, step in job.steps))
    names = ("model", *(name for name, _ in job.steps))
    facts = [properties_of(*each) for each in zip(steps, (None, *nets[:-1]), nets, strict=True)]
    known = next((at for at, name in enumerate(names) if has_approximate_dry_run(name, steps[at])), len(nets))
    chosen = [at for at in range(known) if facts[at].precision == "fp32" and not facts[at].trains]
    latency_ms = dict(zip(chosen, meter([nets[at].module for at in chosen]), strict=True))
    rows: list[StepRow] = []
    for at, (name, step, net) in enumerate(zip(names, steps, nets, strict=True)):
        rows.append(
            StepRow(
                step=name,
                macs=macs(net.module, job.recipe.input),
                options=msgspec.to_builtins(step) if step is not None else {},
                sparsity=sparsity(net.module),
                latency_ms=latency_ms.get(at, rows[-1].latency_ms if rows and facts[at].trains else None),
                **msgspec.structs.asdict(facts[at]),
            )
        )
    return tuple(rows)


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
