"""`toolchain weights`: writes a recipe's torch weights, after its steps, as .safetensors with their history.

models/ knows the file's content. What the back end does after export (quantize, quantize_weights) changes no torch
weights and is not in the file.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.build.dry_run import dry_run_steps
from toolchain.build.pipeline import cache_for
from toolchain.build.reference import fp32_accuracy
from toolchain.build.step_benchmark import LatencyMeter
from toolchain.build.steps import run_steps
from toolchain.build.trained_model import Model, load_staged, load_trained_model, model_inputs, trained_model
from toolchain.compress import POST_EXPORT_STEPS
from toolchain.compress.distributed import distributed_context
from toolchain.errors import ModelError, RecordError, UsageError
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.job import BuildJob, read_job
from toolchain.job.stage import tool_versions
from toolchain.records.storage import digest_of
from toolchain.records.weights import AppliedStep, QatSettings, Structure, Weights, read_weights

if TYPE_CHECKING:
    from toolchain.compress.step import Step

TOOLS = ("edge-toolchain", "torch", "torchvision", "torch-pruning", "safetensors")
SUFFIX = ".safetensors"


class Written(msgspec.Struct, frozen=True):
    """file: the requested path. accuracy: top-1 of fp32 torch on the test split; None if there is none."""

    file: str
    sha256: str
    accuracy: float | None
    parameters: int
    macs: int


def write(place: Path, out: Path, step: int | None, target: str) -> tuple[Weights, Written]:
    """Run the steps of the recipe at `place`, up to number `step` (None: the last one on torch), and write the
    model to `out` atomically. UsageError or ModelError for what cannot be written."""
    from toolchain.compress.quantization.restore import rebuild_qat_layers, tensors_to_store
    from toolchain.models.save import write_weights

    check_out(out)
    job = read_job(place, target)
    check_source(job)
    check_step(job, step)
    cache, meter = cache_for(job), LatencyMeter(job)
    shared = DistributedStageCache(cache, distributed_context())
    original = trained_model(job, shared, model_inputs(job))
    assert original is not None, "check_source lets no graph through"
    dry_run_steps(job, cache, original, meter)
    models = run_steps(replace(job, steps=job.steps[:step]), shared, original, meter)
    changed = max((number for number, model in enumerate(models) if not model.record.facts.same), default=0)
    models = models[: changed + 1]
    accuracy = fp32_accuracy(job, cache, models[-1], "weights")
    record = _record(job, models, accuracy, _command(place, out, step))
    module = load_staged(job, models[-1]).module
    write_weights(module, tensors_to_store(module), record, job.recipe.model, job.base, out, rebuild_qat_layers)
    return record, Written(str(out), digest_of(out), record.accuracy, record.parameters, record.macs)


def check_source(job: BuildJob) -> None:
    """ModelError for a finished graph, which has no weights that another network could take."""
    kind = {".onnx": "an ONNX file", ".pt2": "a torch.export program"}.get(Path(job.recipe.model.source).suffix)
    if kind:
        raise ModelError(
            f"{job.path}: model.source is {kind}: it holds its weights in its own graph and there are no torch "
            "weights to write; give the model as path/file.py:function"
        )


def check_out(out: Path) -> None:
    """UsageError for a name that does not end in .safetensors, and for a file that the toolchain did not write."""
    if out.suffix != SUFFIX:
        raise UsageError(f"--out={out}: expected a file that ends with {SUFFIX}")
    if not out.exists():
        return
    try:
        ours = out.is_file() and read_weights(out) is not None
    except RecordError:
        ours = False
    if not ours:
        raise UsageError(f"--out={out}: exists and was not written by `toolchain weights`; choose another name")


def check_step(job: BuildJob, step: int | None) -> None:
    """UsageError for a number that no step has, or a step that does not change the torch model."""
    if step is None:
        return
    names = [name for name, _ in job.steps]
    if not 0 <= step <= len(names):
        shown = ", ".join(f"{number} {name}" for number, name in enumerate(names, 1)) or "no steps"
        raise UsageError(f"--step={step}: the recipe has: {shown}; 0 is the original model")
    if step and names[step - 1] in POST_EXPORT_STEPS:
        raise UsageError(
            f"--step={step}: {names[step - 1]} is done by the back end, after export, and changes no torch weights; "
            f"use --step={step - 1} or omit --step"
        )


def _record(job: BuildJob, models: tuple[Model, ...], accuracy: float | None, command: str) -> Weights:
    """The record of the weights. models: the original, and the result of each step that is in the weights."""
    recipe, last, started = job.recipe, models[-1].record.step, load_trained_model(job).weights_record
    applied = tuple(AppliedStep(name, msgspec.to_builtins(step)) for name, step in job.steps[: len(models) - 1])
    classes, structure = _structure(job, models, started)
    return Weights(
        source=recipe.model.source,
        options=recipe.model.options,
        classes=classes,
        recipe=recipe.name,
        input=recipe.input,
        data=job.data.name,
        seed=recipe.build.seed,
        steps=(*(started.steps if started else ()), *applied),
        structure=structure,
        accuracy=accuracy,
        images=len(job.data.split("test")),
        parameters=last.parameters,
        macs=last.macs,
        tools=tool_versions(*TOOLS),
        command=command,
    )


def _structure(job: BuildJob, models: tuple[Model, ...], started: Weights | None) -> tuple[int, Structure]:
    """The class count to build the source with, and how to change its structure. For quantization-aware layers the
    model before them is described, and the settings that create them. started: the record of the weights that the
    recipe started from, which may be quantization-aware already."""
    from toolchain.models.check import class_count
    from toolchain.models.save import structure_for_source

    sparse = load_staged(job, models[-1]).sparse
    if started is not None and started.structure.learned is not None:
        return started.classes, msgspec.structs.replace(started.structure, sparse=sparse)
    names = [name for name, _ in job.steps[: len(models) - 1]]
    at = names.index("qat") if "qat" in names else None
    module = load_staged(job, models[-1] if at is None else models[at]).module
    classes = class_count(module, job.recipe.input)
    structure = structure_for_source(job.recipe.model, job.base, module, classes)
    learned = None if at is None else _qat_settings(job.steps[at][1])
    return classes, msgspec.structs.replace(structure, sparse=sparse, learned=learned)


def _qat_settings(step: "Step") -> QatSettings:
    from toolchain.compress.steps.qat import Qat

    assert isinstance(step, Qat)
    scales = step.scales == "learned"
    bits = step.weight_bits, step.activation_bits or None
    return QatSettings(*bits, step.keep_ends, scales, step.symmetric, step.learned.full_range)


def _command(place: Path, out: Path, step: int | None) -> str:
    """The command line, without this machine's folders."""
    recipe, file = (path.name if path.is_absolute() else str(path) for path in (place, out))
    return f"toolchain weights {recipe} --out={file}{f' --step={step}' if step is not None else ''}"
