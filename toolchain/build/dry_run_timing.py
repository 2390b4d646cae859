"""The models of a dry run timed on the target: what is slower already in its new shape need not be trained.

Knows nothing of accuracy: only training tells that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.build.dry_run import dry_run, dry_run_inputs
from toolchain.build.step_verdict import StepRow
from toolchain.build.trained_model import Model
from toolchain.compress.metrics import macs, sparsity
from toolchain.compress.properties import has_approximate_dry_run, properties_of
from toolchain.job.stage import Stage

if TYPE_CHECKING:
    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.compress.step import CompressedModel
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

Rows = tuple[StepRow, ...]


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
