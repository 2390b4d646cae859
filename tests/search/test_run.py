"""A whole search on a small net of one's own: killed, gone on with, and its recipes built again."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.journeys.own import make_own
from toolchain.build.pipeline import build
from toolchain.errors import ToolchainError, UsageError
from toolchain.search.outcomes import OUTCOME, read_outcomes
from toolchain.search.record import SearchRecord
from toolchain.search.run import SearchRequest, search

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
# wide enough that half of its channels take much of its time; it comes untrained, and its first step trains it
NET = """

def broad(classes: int = 7) -> nn.Module:
    return ConvNet(1, (64, 128, 256), classes)
"""
RECIPE = """
name = "broad"

[model]
source = "nets.py:broad"
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
finetune = { epochs = 5, lr = 0.05 }

[[step]]
quantize = { samples = 64 }

[build]
max_accuracy_loss = 40.0 # of a net that is hardly trained

[search]
channel_ratio = [0.5, 0.5]
importance = ["l2"]
round_to = [16]
input_scale = [1.0]
quantization = ["ptq"]
lr = [0.02, 0.02]
epochs = [1, 1]
keep = 2
front = 1
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_own(tmp_path_factory.mktemp("search"))
    with (folder / "nets.py").open("a") as nets:
        nets.write(NET)
    (folder / "broad.toml").write_text(RECIPE)
    return folder / "broad.toml"


@pytest.fixture(scope="module")
def home(recipe: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLCHAIN_HOME", str(recipe.parent / "home"))
        patch.setattr("toolchain.search.run.EXHAUSTED", 8)
        yield recipe.parent / "home"


def trials(home: Path) -> Any:
    return optuna.load_study(study_name="broad", storage=f"sqlite:///{home}/search.sqlite")


def is_at_work(home: Path) -> bool:
    """Whether a trial runs; the tables may not be there yet."""
    try:
        with closing(sqlite3.connect(f"file:{home}/search.sqlite?mode=ro", uri=True)) as database:
            return bool(database.execute("SELECT 1 FROM trials WHERE state = 'RUNNING'").fetchall())
    except sqlite3.OperationalError:
        return False


@pytest.fixture(scope="module")
def states_after_kill(recipe: Path, home: Path) -> list[TrialState]:
    """The states of the trials of a search that was killed."""
    command = [sys.executable, "-m", "toolchain", "search", str(recipe), "--hours=1"]
    with (recipe.parent / "stderr").open("w") as said:
        process = subprocess.Popen(command, stderr=said, start_new_session=True)
        try:
            while not is_at_work(home):
                assert process.poll() is None, (recipe.parent / "stderr").read_text()
                time.sleep(0.2)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return [trial.state for trial in trials(home).get_trials()]


@pytest.fixture(scope="module")
def found(recipe: Path, states_after_kill: list[TrialState]) -> SearchRecord:
    """Of the same search, gone on with to its end."""
    assert states_after_kill
    return search(SearchRequest(recipe, "openvino"))


def test_what_was_killed_is_left_running(states_after_kill: list[TrialState]) -> None:
    assert states_after_kill == [TrialState.RUNNING]


def test_the_same_search_goes_on_and_finds_what_is_faster(found: SearchRecord, home: Path) -> None:
    states = [trial.state for trial in trials(home).get_trials()]
    assert TrialState.RUNNING not in states
    assert states[0] == TrialState.FAIL  # the killed one; it was queued again
    outcomes = read_outcomes(trials(home))
    counted = [(outcome.proposal.key, outcome.rung) for outcome in outcomes]
    assert len(counted) == len(set(counted))
    own = [trial for trial in trials(home).get_trials() if OUTCOME in trial.user_attrs]
    assert len(own) == len(counted)  # what was drawn again has no outcome of its own
    assert found.best is not None
    assert (found.best.speedup or 0) > 1.1
    assert (found.cost.trained, found.cost.trained_further) in ((2, 1), (4, 2), (1, 0), (3, 1))
    check_files(found)


def check_files(record: SearchRecord) -> None:
    folder = Path(record.folder)
    assert record.best is not None
    assert json.loads((folder / "search.json").read_text())["best"]["recipe"] == record.best.recipe
    assert sorted(path.stem for path in folder.glob("*.toml")) == sorted(("broad-uncut", record.best.recipe))


def test_a_search_that_is_over_says_the_same_again_and_a_build_makes_the_same(
    recipe: Path, home: Path, found: SearchRecord
) -> None:
    before = len(read_outcomes(trials(home)))
    record = search(SearchRequest(recipe, "openvino"))
    assert len(read_outcomes(trials(home))) == before
    assert record.best is not None
    assert found.best is not None
    assert record.best.recipe == found.best.recipe
    again = build(Path(record.folder) / f"{record.best.recipe}.toml", "openvino", None)
    assert str(again.folder) == record.best.bundle


@pytest.mark.usefixtures("home")
def test_where_no_recipes_can_be_kept_is_one_line(recipe: Path) -> None:
    with pytest.raises(UsageError, match=r"--out=.*broad.toml/x: no recipes can be kept there: Not a directory"):
        search(SearchRequest(recipe, "openvino", folder=recipe / "x"))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("change", "target", "message"),
    [
        ("", "null", r"--target=null: computes nothing"),
        ("quantize = { samples = 64 }", "openvino", r"step 2, qat: a quantized net cannot be cut"),
        ("channel_ratio = [0.5, 0.5]", "openvino", r"\[search\] leaves a single recipe"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(recipe: Path, change: str, target: str, message: str) -> None:
    instead = {
        "quantize = { samples = 64 }": "qat = { epochs = 1 }",
        "channel_ratio = [0.5, 0.5]": 'channel_ratio = [0.5, 0.5]\ntraining = ["distill"]\nresidual = [true]',
    }
    other = recipe.with_name("other.toml")
    other.write_text(RECIPE.replace(change, instead.get(change, ""), 1).replace('"broad"', '"other"', 1))
    with pytest.raises(ToolchainError, match=message) as caught:
        search(SearchRequest(other, target))
    assert "\n" not in str(caught.value)


def test_too_little_time_says_how_much_is_needed(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))  # where nothing is built yet: what is kept takes no time
    with pytest.raises(UsageError, match=r"--hours=0.001: too little for one trial, .* give at least --hours=\d"):
        search(SearchRequest(recipe, "openvino", hours=0.001))
