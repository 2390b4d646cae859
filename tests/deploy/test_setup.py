"""deploy/setup.sh, as far as it can be run without changing this machine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.docker.test_engine import fake_client
from tests.house.tree import ROOT
from tests.terminal import on_terminal


def setup(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = {"PATH": "/usr/bin:/bin", **environment}
    command = ["bash", "deploy/setup.sh", *words]
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)


def test_an_engine_elsewhere_that_does_not_answer_is_named_and_nothing_is_installed() -> None:
    done = setup("engine", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 1
    assert done.stderr == (
        "set-up: no Docker Engine answers at DOCKER_HOST=unix:///nowhere/docker.sock; start it, or unset the variable\n"
    )


@pytest.mark.parametrize(
    ("version", "buildx", "can"), [("28.2.2", True, True), ("28.2.2", False, False), ("20.10.24+dfsg1", False, True)]
)
def test_a_client_can_build_through_a_plug_in_or_by_itself(
    tmp_path: Path, version: str, buildx: bool, can: bool
) -> None:
    fake_client(tmp_path, version, buildx)
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    assert (setup("can_build", PATH=str(tmp_path)).returncode == 0) is can


def test_a_stage_is_one_line_and_its_output_is_in_the_log() -> None:
    log = ROOT / ".toolchain" / "setup.log"
    done = setup("stage", "counting", "seq", "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"set-up: counting (log: {log})\n")
    assert log.read_text().splitlines()[-20:] == [str(number) for number in range(1, 21)]


def test_a_stage_that_fails_shows_the_end_of_its_output() -> None:
    done = setup("stage", "counting", "sh", "-c", "seq 20; exit 3")
    assert done.returncode == 3
    first, failed, *end = done.stderr.splitlines()
    assert first.startswith("set-up: counting (log: ")
    assert failed == "set-up: counting: failed with exit status 3; its output ends:"
    assert end == [str(number) for number in range(6, 21)]


def test_a_stage_on_a_terminal_rewrites_one_line() -> None:
    shown = on_terminal(["bash", "deploy/setup.sh", "stage", "counting", "sleep", "0.3"], ROOT)
    *drawn, end = shown.split("\r\033[K")
    assert any(re.search(r"[|/\\-] counting, [0-9]+ s \(log: ", text) for text in drawn)
    assert end.strip().startswith("set-up: counting: done in ")


def test_what_is_there_already_is_not_installed_again() -> None:
    assert setup("packages").stderr == ""
