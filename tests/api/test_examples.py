"""Python does what the command does: every example of the reference, and the notebook, with a real container."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from docker import DockerClient

from benchmarks.first_hour.python import copy_example, remove_traces, run_examples
from docs.generate.python import public_names
from tests.journeys.conftest import lend_wheelhouse, shorten_gates
from tests.names import own_name

pytestmark = [pytest.mark.docker, pytest.mark.slow]
EXAMPLES, NOTEBOOK = own_name("python-examples"), own_name("python-notebook")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module", autouse=True)
def nothing_left(engine: DockerClient) -> Iterator[None]:
    yield
    for name in (EXAMPLES, NOTEBOOK):
        remove_traces(name)


def test_every_example_of_the_reference_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lend_wheelhouse(home)
    shorten_gates(monkeypatch, tmp_path)
    faults = run_examples(public_names(), copy_example(tmp_path / "own", EXAMPLES))
    without_pandas = [] if find_spec("pandas") else ["history"]
    assert [name for name in faults if name not in without_pandas] == [], faults


def test_the_notebook_runs_from_its_first_cell_to_its_last(home: Path, tmp_path: Path) -> None:
    lend_wheelhouse(home)
    folder = copy_example(tmp_path / "own", NOTEBOOK)
    notebook = json.loads((folder / "notebook.ipynb").read_text())
    assert [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["outputs"]] == []
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (folder / "cells.py").write_text("\n".join(cells).replace("grey28-notebook", NOTEBOOK))
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    right, refusal = done.stdout.splitlines()
    assert int(right.split()[0]) >= 24
    assert right.endswith("of 28 right")
    assert refusal.startswith("nowhere.toml: no recipe here")
