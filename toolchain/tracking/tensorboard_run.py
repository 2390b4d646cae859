"""A run as TensorBoard's event files: scalars, the HPARAMS tab, and the recipe as text. It keeps no files, so the text
says where the bundle and the report are."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from toolchain.errors import UsageError
from toolchain.tracking.run import TrackedRun

EVENTS = "events.out.tfevents.*"


def write_run(run: TrackedRun, place: str) -> str:
    """Into a folder of its own below `place`; that of an earlier export of the same build is written anew."""
    folder = Path(place) / run.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(EVENTS):
            earlier.unlink()
        with SummaryWriter(str(folder)) as writer:
            _write(run, writer)
    except OSError as error:
        raise UsageError(f"--track=tensorboard:{place}: {folder}: {error.strerror}; name another folder") from error
    return f"tensorboard --logdir {place}"


def _write(run: TrackedRun, writer: SummaryWriter) -> None:
    for curve in run.curves:
        for step, value in curve.points:
            writer.add_scalar(curve.name, value, step)
    final = {f"final/{key}": value for key, value in run.figures.items()}
    writer.add_hparams(dict(run.parameters), final, run_name=".")
    writer.add_text("recipe", f"```toml\n{run.recipe}\n```")
    files = {"bundle": str(run.bundle), "report": str(run.report)}
    writer.add_text("release", "\n".join(f"- {key}: `{value}`" for key, value in {**run.tags, **files}.items()))
