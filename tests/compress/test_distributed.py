"""Two real processes under torchrun, on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.nets import context
from tests.compress.together import PLAN, net_of
from toolchain.compress.distributed import SINGLE_PROCESS, DistributedContext, distributed_context
from toolchain.compress.options import check_training
from toolchain.compress.step import CompressedModel
from toolchain.errors import RecipeError

TORCHRUN = Path(sys.executable).with_name("torchrun")


def together(folder: Path, kind: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TORCHRUN, "--standalone", "--nproc-per-node=2", "-m", "tests.compress.together", str(folder), kind],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def left(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"{rank}.json").read_text())


def test_without_torchrun_there_is_a_single_process() -> None:
    assert distributed_context() == SINGLE_PROCESS
    assert (
        SINGLE_PROCESS.is_first,
        SINGLE_PROCESS.is_local_first,
        SINGLE_PROCESS.broadcast(3),
        SINGLE_PROCESS.all_gather(3),
    ) == (True, True, 3, [3])
    assert SINGLE_PROCESS.run_on_first(lambda: 4) == 4
    tensor = torch.tensor([1.0])
    SINGLE_PROCESS.average_([tensor])
    assert float(SINGLE_PROCESS.all_reduce(tensor)) == 1


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    done = together(tmp_path, "plain")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    first, second = left(tmp_path, 0), left(tmp_path, 1)
    assert first["digest"] == second["digest"]
    assert not any((tmp_path / "work-1").glob("*"))
    alone = PLAN.apply(CompressedModel(net_of("plain")), context(tmp_path / "alone"))
    found = torch.load(tmp_path / "0.pt", weights_only=True)
    for name, tensor in alone.module.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)
    for entry, other in zip(alone.history, first["history"], strict=True):
        assert other["loss"] == pytest.approx(entry["loss"], rel=1e-3)
        assert other["accuracy_train"] == pytest.approx(entry["accuracy_train"], abs=0.03)
    # what one process began, several go on with: nothing is left to do
    again = PLAN.apply(CompressedModel(net_of("plain")), context(tmp_path / "work-0"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in again.module.state_dict().items())


@pytest.mark.slow
def test_all_end_with_the_same_statistics(tmp_path: Path) -> None:
    done = together(tmp_path, "norms")
    assert done.returncode == 0, done.stderr
    assert left(tmp_path, 0)["digest"] == left(tmp_path, 1)["digest"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nan", 1, "the loss became nan in epoch 2, step 4 of 6 (the checkpoint after epoch 1 is kept)"),
        ("error", 1, "no luck in the second process"),
    ],
)
def test_an_error_in_one_process_is_reported_once_and_stops_all(
    kind: str, code: int, message: str, tmp_path: Path
) -> None:
    done = together(tmp_path, kind)
    said = [line for line in done.stderr.splitlines() if line.startswith("toolchain: ")]
    assert done.returncode == code
    assert len(said) == 1, done.stderr
    assert said[0].startswith(f"toolchain: {message}")
    assert torch.load(tmp_path / "work-0" / "training.pt", weights_only=True)["epoch"] == 1


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    done = together(tmp_path, "killed")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("toolchain: ")]
    lost = (
        "toolchain: another process of this training ended or cannot be reached; run the same command again to resume"
    )
    assert said in ([], [lost])  # torchrun may be quicker


def test_a_batch_has_an_image_for_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.compress.options.distributed_context", lambda: DistributedContext(0, 16))
    with pytest.raises(
        RecipeError, match="a batch of 15 for 16 processes: expected at least one image per process; start fewer"
    ):
        check_training(PLAN, context(tmp_path))
