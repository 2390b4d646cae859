"""The steps of a build, each a kept stage that makes a model of the model before it.

Knows what a step depends on and leaves behind; what a step does is compress/'s, what it is worth step_verdict.py's.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.build.trained_model import NET, Model, ModelRecord, load_staged, module_key
from toolchain.compress.metrics import apply_step
from toolchain.compress.properties import properties_of
from toolchain.compress.serialization import save_compressed
from toolchain.compress.step import StepContext
from toolchain.compress.step_failure import explain_step
from toolchain.job.stage import Stage
from toolchain.models import source_files
from toolchain.records.storage import digest_of

if TYPE_CHECKING:
    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.compress.step import Step
    from toolchain.job.distributed_stages import DistributedStageCache
    from toolchain.job.job import BuildJob


def run_steps(
    job: "BuildJob", cache: "DistributedStageCache", original: Model, meter: "LatencyMeter"
) -> tuple[Model, ...]:
    """The model as it came, which is `original`, and after each step."""
    models = [original]
    for number, (name, step) in enumerate(job.steps, 1):
        models.append(cache.run_in_all(_stage(job, number, name, step, models[-1], original, meter)))
    return tuple(models)


def last_trained(models: tuple[Model, ...]) -> int:
    """Where the last training in fp32 ended: what a model that came untrained is held against. Without any training,
    the last model in fp32."""
    facts = [model.record.facts for model in models]
    full = [number for number, fact in enumerate(facts) if fact.precision == "fp32"]
    return max((number for number in full if facts[number].trains), default=full[-1])


def step_inputs(job: "BuildJob", step: "Step", meter: "LatencyMeter") -> dict[str, object]:
    """A step's options, the bytes of the teachers that they name, and the device where it measures on that."""
    teachers = [digest_of(file) for spec in getattr(step, "teachers", ()) for file in source_files(spec, job.base)]
    device = meter.inputs if measures(step) else {}
    return {"options": msgspec.to_builtins(step), "teachers": teachers, **device}


def measures(step: "Step") -> bool:
    """Whether the step measures latencies on the target."""
    return bool(getattr(step, "latency_times_faster", None))


def context_for(job: "BuildJob", original: Model, meter: "LatencyMeter", work: Path) -> StepContext:
    """What a step may use; `work` is its own folder, from which it resumes."""
    return StepContext(
        data=job.data,
        preprocessing=job.recipe.input,
        output=original.record.output,
        folder=work,
        seed=job.recipe.build.seed,
        original=lambda: load_staged(job, original).module,
        base=job.base,
        latencies_ms=meter,
    )


def _stage(
    job: "BuildJob", number: int, name: str, step: "Step", before: Model, original: Model, meter: "LatencyMeter"
) -> Stage[ModelRecord]:
    def make(folder: Path, work: Path) -> ModelRecord:
        given = load_staged(job, before)
        with explain_step(str(job.path), number, name):
            net, record = apply_step(name, step, given, context_for(job, original, meter, work))
        save_compressed(net, folder / NET)
        facts = properties_of(step, given, net)
        return ModelRecord(record, facts, original.record.output, module_key(before) if facts.same else "")

    inputs = {"before": before.key, "original": original.key, **step_inputs(job, step, meter)}
    title = f"step {number}/{len(job.steps)}: {name}"
    uses = (type(step), meter) if measures(step) else (type(step),)
    return Stage(name, title, ModelRecord, inputs, make, uses)
