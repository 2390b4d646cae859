"""A run of Weights & Biases, written offline: a build machine needs no account and no network. `wandb sync` uploads
it."""

import os
from pathlib import Path

import wandb

from toolchain.errors import UsageError
from toolchain.tracking.run import TrackedRun

SERVICE = "WANDB_SERVICE"  # where this process already has one


def write_run(run: TrackedRun, place: str) -> str:
    """Below `place`/wandb. Each curve has its own axis, the epoch or the number of the step."""
    is_first = SERVICE not in os.environ
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        with wandb.init(
            project=run.project,
            name=run.name,
            dir=place,
            mode="offline",
            config={**run.parameters, **run.tags},
            settings=settings,
        ) as written:
            _log(written, run)
            folder = Path(written.settings.sync_dir)
    except (wandb.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--track=wandb:{place}: {reason}; name another folder") from error
    finally:
        if is_first:
            wandb.teardown()  # the process that wrote for this one
    return f"wandb sync {folder}"


def _log(written: "wandb.Run", run: TrackedRun) -> None:
    for curve in run.curves:
        axis = f"{curve.name}:at"
        written.define_metric(axis, hidden=True)
        written.define_metric(curve.name, step_metric=axis)
        for step, value in curve.points:
            written.log({curve.name: value, axis: step})
    written.summary.update(run.figures)
    bundle = wandb.Artifact(run.project, type="bundle", metadata=dict(run.tags))
    bundle.add_dir(str(run.bundle))
    bundle.add_file(str(run.report))
    written.log_artifact(bundle)
