"""deploy/setup.sh, as far as it can be run without changing this machine."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.docker.test_engine import fake_client
from tests.house.tree import ROOT


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


def test_what_is_there_already_is_not_installed_again() -> None:
    assert setup("packages").stderr == ""
