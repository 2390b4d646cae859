"""The steps before they are run: untrained, in the shapes that they lead to, to refuse what cannot work."""

from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.build.steps import context_for, measures, step_inputs
from toolchain.build.trained_model import Model, load_staged
from toolchain.compress import check_steps
from toolchain.job.stage import Stage

if TYPE_CHECKING:
    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.compress.step import CompressedModel
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache


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
