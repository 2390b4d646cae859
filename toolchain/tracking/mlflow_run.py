"""A run of MLflow, in a folder, in a database or on a server; the bundle and the report are its artifacts."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from toolchain.errors import UsageError
from toolchain.tracking.run import TrackedRun

LoggedT = TypeVar("LoggedT")
METRICS, PARAMETERS = 1000, 100  # that one call takes
LETTERS = 6000  # of a parameter's value


def write_run(run: TrackedRun, place: str) -> str:
    """Into the experiment of the model's name."""
    try:
        client = MlflowClient(tracking_uri=place)
        experiment = client.get_experiment_by_name(run.project)
        number = experiment.experiment_id if experiment else client.create_experiment(run.project)
        written = client.create_run(number, run_name=run.name)
        _log(client, written.info.run_id, run)
        client.set_terminated(written.info.run_id)
    except (MlflowException, OSError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--track=mlflow:{place}: {reason}") from error
    return f"mlflow: experiment {run.project}, run {run.name} ({written.info.run_id})"


def _log(client: MlflowClient, number: str, run: TrackedRun) -> None:
    now = round(time.time() * 1000)
    metrics = [Metric(curve.name, value, now, step) for curve in run.curves for step, value in curve.points]
    metrics += [Metric(name, value, now, 0) for name, value in run.figures.items()]
    parameters = [Param(key, value[:LETTERS]) for key, value in run.parameters.items()]
    for part in _parts(metrics, METRICS):
        client.log_batch(number, metrics=part)
    for some in _parts(parameters, PARAMETERS):
        client.log_batch(number, params=some)
    client.log_batch(number, tags=[RunTag(key, value) for key, value in run.tags.items()])
    client.log_text(number, run.recipe, "recipe.toml")
    client.log_artifacts(number, str(run.bundle), f"bundle/{Path(run.bundle).name}")
    client.log_artifact(number, str(run.report))


def _parts(items: Sequence[LoggedT], size: int) -> Iterator[Sequence[LoggedT]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
