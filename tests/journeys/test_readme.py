"""Every command of the README, run as it stands there; what is added makes it shorter, or keeps it out of the way."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from docker import DockerClient

from tests.house.tree import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.slow]
# by the command: what is added to it here
RUN_BY_A_TEST: dict[str, tuple[str, ...]] = {
    "make deploy-cpu": ("PORT=18080",),
    "make test": ("TESTS=tests/test_tables.py",),
    ".venv/bin/python examples/own_model/make_data.py": (),
    "make deploy-cpu RECIPE=examples/own_model/grey28.toml RELEASE=1.4.0 PORT=8081": ("PORT=18081",),
    "make docs": (),
    "make bench-serving": ("QUICK=1", "ONLY=ours"),
    "make bench-gate": ("QUICK=1",),
    "make bench-ship": ("QUICK=1",),
    "make bench-compress QUICK=1": (),
}
OWN = [command for command in RUN_BY_A_TEST if "examples/own_model" in command]  # in this order
QUICK = ["make test", "make docs"]
# with a training set to fetch, or hours of measuring
LONG = [command for command in RUN_BY_A_TEST if command not in (*OWN, *QUICK)]
STARTED = ("edge-cifar10-resnet20", "edge-grey28")


def run(command: str) -> None:
    words = [*command.split(), *RUN_BY_A_TEST[command]]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TOOLCHAIN"))}
    done = subprocess.run(words, cwd=ROOT, env=inherited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture
def tidy(engine: DockerClient) -> Iterator[None]:
    """No container of these names before, none after."""
    for when in ("before", "after"):
        for name in STARTED:
            for container in engine.containers.list(all=True, filters={"name": f"^/{name}$"}):
                container.remove(force=True)
        if when == "before":
            yield


@pytest.mark.usefixtures("tidy")
def test_the_example_of_ones_own_model_is_deployed() -> None:
    for command in OWN:
        run(command)


@pytest.mark.parametrize("command", QUICK)
def test_a_command_of_the_readme_does_what_it_says(command: str) -> None:
    run(command)


@pytest.mark.exhaustive
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("command", LONG)
@pytest.mark.usefixtures("tidy")
def test_a_long_command_of_the_readme_does_what_it_says(command: str) -> None:
    run(command)
