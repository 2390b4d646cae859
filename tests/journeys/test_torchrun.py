"""`torchrun … toolchain build`: the steps in two processes, killed and gone on with, alone too."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest

from tests.journeys.own import make_own
from toolchain.compress.serialization import load_compressed, weights_digest
from toolchain.models import import_user_file

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
RECIPE = """
name = "together"

[model]
source = "nets.py:grey28"
weights = "random"

[input]
height = 28
width = 28
channels = 1
mean = [0.5]
std = [0.25]

[data]
name = "folder"
path = "data/grey28"

[[step]]
finetune = { epochs = 6, batch_size = 32, lr = 0.05, keep_best = false, augment = ["crop"] }
[[step]]
prune_channels = { ratio = 0.2, round_to = 4 }
[[step]]
finetune = { epochs = 2, batch_size = 32, lr = 0.02, keep_best = false, augment = ["crop"] }
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_own(tmp_path_factory.mktemp("together")) / "together.toml"
    place.write_text(RECIPE)
    return place


def command(recipe: Path, processes: int) -> list[str]:
    build = [str(BIN / "toolchain"), "build", str(recipe), "--target=null"]
    return build if processes == 1 else [str(BIN / "torchrun"), "--standalone", f"--nproc-per-node={processes}", *build]


def at(home: Path) -> dict[str, str]:
    return {**os.environ, "TOOLCHAIN_HOME": str(home), "OMP_NUM_THREADS": "1"}


def built(recipe: Path, home: Path, processes: int) -> str:
    """Its stderr; stdout ends with one document, said by one process."""
    done = subprocess.run(command(recipe, processes), env=at(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["release"] == "1"
    assert "Warning" not in done.stderr
    return done.stderr


def killed(recipe: Path, home: Path, processes: int, line: str) -> None:
    """A build, all of whose processes are killed when `line` is said; torchrun's have sessions of their own."""
    with subprocess.Popen(command(recipe, processes), env=at(home), stderr=subprocess.PIPE, text=True) as job:
        assert job.stderr is not None
        for said in job.stderr:
            if said.startswith(line):
                children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
                for one in (job.pid, *map(int, children)):
                    os.kill(one, signal.SIGKILL)
                break
        job.stderr.read()


def nets(recipe: Path, home: Path) -> list[str]:
    """The weights' digests after each step, by the order of the stages' making."""
    import_user_file(recipe.parent / "nets.py")
    places = sorted((home / "cache").glob("*/net.pt"), key=lambda path: path.parent.stat().st_mtime)
    return [weights_digest(load_compressed(path).module) for path in places]


def accuracies(home: Path) -> list[float]:
    """On the validation part, after each step."""
    manifest = json.loads(next((home / "bundles").glob("*/manifest.json")).read_text())
    return [step["accuracy_validate"] for step in manifest["steps"]]


@pytest.fixture(scope="module")
def half_done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left that were killed in their first training; to be copied."""
    home = tmp_path_factory.mktemp("home") / "half"
    killed(recipe, home, 2, "epoch 4/6")
    return home


@pytest.fixture(scope="module")
def together(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home") / "together"
    said = built(recipe, home, 2)
    assert said.count("epoch 6/6: loss") == 1
    yield home


def test_two_processes_are_as_good_as_one(recipe: Path, together: Path, tmp_path: Path) -> None:
    built(recipe, tmp_path, 1)
    alone, both = accuracies(tmp_path), accuracies(together)
    assert min(alone[-1], both[-1]) > 0.7
    assert both[-1] == pytest.approx(alone[-1], abs=0.12)  # 98 pictures: a standard error is 0.04


def test_what_was_killed_goes_on_to_the_same_weights(
    recipe: Path, half_done: Path, together: Path, tmp_path: Path
) -> None:
    home = copytree(half_done, tmp_path / "home")
    assert "resuming after epoch 4 of 6" in built(recipe, home, 2)
    assert nets(recipe, home) == nets(recipe, together)


def test_one_process_goes_on_with_what_two_began(recipe: Path, half_done: Path, tmp_path: Path) -> None:
    home = copytree(half_done, tmp_path / "home")
    assert "resuming after epoch 4 of 6" in built(recipe, home, 1)
    assert accuracies(home)[-1] > 0.7
