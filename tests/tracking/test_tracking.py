"""What a tracker was told, read back with its own library."""

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import null_bundle
from tests.report.test_report import CANDIDATES, EPOCHS, STEPS
from toolchain import installation
from toolchain.errors import UsageError
from toolchain.tracking import parse_track
from toolchain.tracking.run import TrackedRun, tracked_run

RECIPE = """name = "null"
[model]
source = "torchvision:resnet18"
[[step]]
finetune = { epochs = 4, lr = 0.1 }
[[step]]
prune_channels = { ratio = 0.3 }
"""
ACCURACIES = [entry["accuracy_validate"] for entry in EPOCHS]


@pytest.fixture
def run(tmp_path: Path) -> TrackedRun:
    bundle = null_bundle(tmp_path / "b", steps=STEPS, candidates=CANDIDATES, chosen="int8", recipe=RECIPE)
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    return tracked_run(bundle, report, {"latency_ms": 0.3, "url": "http://here", "certified": True})


def write(run: TrackedRun, track: str) -> str:
    target = parse_track(track)
    assert target
    return target.write(run)


def test_a_run_has_the_recipe_the_curves_and_the_final_figures(run: TrackedRun) -> None:
    assert run.parameters["step.1.finetune.epochs"] == "4"
    assert run.parameters["step.2.prune_channels.ratio"] == "0.3"
    curves = {curve.name: curve.points for curve in run.curves}
    assert curves["train/1-finetune/accuracy_validate"] == tuple(enumerate(ACCURACIES, 1))
    assert curves["steps/accuracy_validate"] == ((0, 0.5), (1, 0.9))
    assert (run.figures["accuracy"], run.figures["latency_ms"], run.figures["size_bytes"]) == (0.9093, 0.4, 400_000)
    assert run.figures["candidates/fp32/latency_ms"] == 0.8
    assert {key: value for key, value in run.figures.items() if key.startswith("served")} == {"served/latency_ms": 0.3}


def test_tensorboard_reads_what_was_written(run: TrackedRun, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = tmp_path / "runs"
    for _ in range(2):  # the second export of one build replaces the first
        assert write(run, f"tensorboard:{place}") == f"tensorboard --logdir {place}"
    events = EventAccumulator(str(place / run.name)).Reload()
    points = events.Scalars("train/1-finetune/accuracy_validate")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert [point.value for point in points] == pytest.approx(ACCURACIES)
    assert events.Scalars("final/latency_ms")[0].value == pytest.approx(0.4)
    assert b"prune_channels" in events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mlflow_reads_what_was_written(run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of a database
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    write(run, f"mlflow:{place}")
    client = MlflowClient(tracking_uri=place)
    (found,) = client.search_runs([client.get_experiment_by_name("null").experiment_id])
    assert (found.info.run_name, found.info.status) == (run.name, "FINISHED")
    assert found.data.params["step.2.prune_channels.ratio"] == "0.3"
    assert found.data.metrics["size_bytes"] == 400_000
    curve = client.get_metric_history(found.info.run_id, "train/1-finetune/accuracy_validate")
    assert [(point.step, point.value) for point in curve] == list(enumerate(ACCURACIES, 1))
    assert {one.path for one in client.list_artifacts(found.info.run_id)} == {"bundle", "recipe.toml", "report.html"}
    (bundle,) = client.list_artifacts(found.info.run_id, "bundle")
    kept = {Path(one.path).name for one in client.list_artifacts(found.info.run_id, bundle.path)}
    assert kept == {path.name for path in run.bundle.iterdir()}


@pytest.mark.slow
def test_wandb_reads_what_was_written(run: TrackedRun, tmp_path: Path) -> None:
    said = write(run, f"wandb:{tmp_path / 'logs'}")
    records = wandb_records(Path(said.removeprefix("wandb sync ")))
    rows = [{one.key or ".".join(one.nested_key): one.value_json for one in each.history.item} for each in records]
    curve = [row for row in rows if "train/1-finetune/accuracy_validate" in row]
    assert [float(row["train/1-finetune/accuracy_validate"]) for row in curve] == ACCURACIES
    assert [int(row["train/1-finetune/accuracy_validate:at"]) for row in curve] == [1, 2, 3, 4]
    config = {one.key: one.value_json for each in records for one in each.run.config.update}
    assert config["step.1.finetune.epochs"] == '"4"'
    (artifact,) = [each.artifact for each in records if each.artifact.name]
    assert {Path(entry.path).name for entry in artifact.manifest.contents} >= {"manifest.json", "report.html"}


def wandb_records(folder: Path) -> list[Any]:
    """The file is a log of LevelDB's form: blocks of 32 kB, parts of records with a checksum, a length and a kind."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("run-*.wandb")
    content, at, records, whole = file.read_bytes(), 7, [], b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            records.append(wandb_internal_pb2.Record.FromString(whole))  # type: ignore[attr-defined]  # generated; it has no stub
            whole = b""
    return records


@pytest.mark.parametrize("text", ["mlflow", "mlflow:", "comet:here", "tensorboard"])
def test_another_tracker_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="expected mlflow:URI, tensorboard:FOLDER or wandb:FOLDER"):
        parse_track(text)


def test_a_library_that_is_missing_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda _: None)
    monkeypatch.setattr(installation, "is_checkout", bool)
    with pytest.raises(UsageError) as caught:
        parse_track("mlflow:http://127.0.0.1:5000")
    assert "not installed: mlflow; run " in str(caught.value)
    assert str(caught.value).endswith("-m pip install 'edge-toolchain[mlflow]'")


def test_a_file_where_a_folder_is_expected_is_refused_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        parse_track(f"tensorboard:{tmp_path / 'runs'}")


def test_a_server_that_is_not_there_is_one_line(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UsageError) as caught:
        write(run, "mlflow:http://127.0.0.1:9")
    assert "\n" not in str(caught.value)
