"""Where trials are kept: what cannot be reached, what is of something else, and what a dead process left."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.deploy.ledger.ledgers import postgresql
from toolchain.errors import RecipeError, RecordError, UsageError
from toolchain.search.outcomes import RUNG
from toolchain.search.storage import (
    close_storage,
    hold_search,
    open_storage,
    open_study,
    show_url,
    storage_url,
    take_up_dead_trials,
)

__all__ = ["postgresql"]
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asked for a trial by hand


def study_in(place: Path, **identity: Any) -> Any:
    url = storage_url(str(place))
    return open_study(url, open_storage(url), "net", identity)


def test_a_path_is_an_sqlite_file_and_by_default_it_lies_with_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    assert show_url(storage_url(None)) == str(tmp_path / "search.sqlite")
    assert storage_url("postgres://me:secret@host/trials").drivername == "postgresql+psycopg"
    assert "secret" not in show_url(storage_url("postgres://me:secret@host/trials"))


@pytest.mark.parametrize("text", ["mysql://host/trials", "http://host", "sqlite://"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--storage=FILE"):
        storage_url(text)


def test_what_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for text in (str(tmp_path / "file" / "a.sqlite"), "postgresql://nobody@127.0.0.1:9/trials", str(tmp_path)):
        with pytest.raises(RecordError, match="trials cannot be kept there") as caught:
            open_storage(storage_url(text))
        assert "\n" not in str(caught.value)


def test_a_study_of_something_else_is_named_with_both(tmp_path: Path) -> None:
    place = tmp_path / "a.sqlite"
    study_in(place, recipe={"data": "a"}, target="openvino").ask()
    study_in(place, recipe={"data": "a"}, target="openvino")
    with pytest.raises(RecipeError, match=r"recipe\.data = 'a' there, 'b' here; give this recipe another `name`"):
        study_in(place, recipe={"data": "b"}, target="openvino")


def test_what_is_too_long_for_a_line_is_shown_by_its_digest(tmp_path: Path) -> None:
    place = tmp_path / "a.sqlite"
    study_in(place, files=["a" * 64]).ask()
    with pytest.raises(RecipeError, match=r"files = [0-9a-f]{12} \(sha256\) there, [0-9a-f]{12} \(sha256\) here"):
        study_in(place, files=["b" * 64])


def test_a_study_without_a_trial_is_nobodys(tmp_path: Path) -> None:
    study_in(tmp_path / "a.sqlite", recipe="a")
    assert study_in(tmp_path / "a.sqlite", recipe="b").user_attrs["identity"] == {"recipe": "b"}


def test_a_trial_of_a_dead_process_is_run_again_with_its_parameters(tmp_path: Path) -> None:
    study = study_in(tmp_path / "a.sqlite")
    study.enqueue_trial({"x": 3}, user_attrs={RUNG: 2, "outcome": "half"})
    trial = study.ask()
    trial.suggest_int("x", 0, 10)
    again = study_in(tmp_path / "a.sqlite")
    assert take_up_dead_trials(again) == 1
    assert take_up_dead_trials(again) == 0
    taken = again.ask()
    assert (taken.suggest_int("x", 0, 10), taken.user_attrs) == (3, {RUNG: 2})


def test_one_search_at_a_time_works_on_an_sqlite_file(tmp_path: Path) -> None:
    url = storage_url(str(tmp_path / "a.sqlite"))
    with hold_search(url, "net") as alone:
        assert alone
        with hold_search(url, "other"):
            pass
        with pytest.raises(UsageError, match="another search of 'net' is at work"), hold_search(url, "net"):
            pass
    with hold_search(url, "net"):
        pass


WORKER = """
import sys, time
from toolchain.search import storage
storage.HEARTBEAT_S, storage.GRACE_S = 1, 2
url = storage.storage_url(sys.argv[1])

def work(trial):
    trial.suggest_int("x", 0, 1000)
    print("at work", flush=True)
    time.sleep(600)

storage.open_study(url, storage.open_storage(url), "net", {}).optimize(work, n_trials=1)
"""


def test_on_postgresql_another_worker_takes_up_what_a_killed_one_was_at(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.search.storage.HEARTBEAT_S", 1)
    monkeypatch.setattr("toolchain.search.storage.GRACE_S", 2)
    url = storage_url(postgresql)
    with hold_search(url, "net") as alone:
        assert not alone
    storage = open_storage(url)
    study = open_study(url, storage, "net", {})
    with subprocess.Popen([sys.executable, "-c", WORKER, postgresql], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == "at work\n"
        worker.send_signal(signal.SIGKILL)
    left = study.get_trials()[0].params
    found: list[dict[str, Any]] = []

    def work(trial: optuna.Trial) -> tuple[float, float]:
        trial.suggest_int("x", 0, 1000)
        found.append(trial.params)
        return 1.0, 1.0

    while study.get_trials()[0].state == optuna.trial.TrialState.RUNNING:
        study.optimize(work, n_trials=1)  # another one, until the heart has stopped for long enough
    study.optimize(work, n_trials=1)
    assert found.count(left) == 1
    states = [trial.state for trial in study.get_trials()]
    assert states.count(optuna.trial.TrialState.FAIL) == 1
    assert optuna.trial.TrialState.WAITING not in states
    close_storage(storage)
