"""Where long work shows itself."""

import logging
import subprocess
import sys

import pytest

from tests.house.tree import ROOT
from toolchain import errors, progress
from toolchain.api.display import show_progress

# pytest configures logging itself, so that what is shown is seen in a process of its own
PROGRAM = """
import logging, sys
{before}
from toolchain.api.display import show_progress
from toolchain.progress import track
logger = logging.getLogger("toolchain.x")
with show_progress():
    logger.info("building")
    list(track(range(3), "images"))
logger.info("afterwards")
"""
NOTEBOOK = """
from types import ModuleType
from toolchain import progress
class ZMQInteractiveShell: pass
sys.modules["IPython"] = ModuleType("IPython")
sys.modules["IPython"].get_ipython = ZMQInteractiveShell
progress.NOTEBOOK_S = 0
"""


def run_program(before: str = "") -> str:
    code = PROGRAM.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    return done.stderr.decode()  # with its carriage returns


def test_a_script_shows_nothing_that_it_did_not_ask_for() -> None:
    assert run_program() == ""


def test_a_notebook_shows_messages_and_a_bar_that_goes_in_the_end() -> None:
    shown = run_program(NOTEBOOK)
    assert shown.startswith("building\n\r  images: ")
    assert "█ 3/3" in shown
    assert shown.endswith(f"\r{'':<{len('  images: ') + progress.BLOCKS + 4}}\r")


def test_a_program_that_configures_logging_gets_the_messages_by_its_own_handlers() -> None:
    shown = run_program(f"{NOTEBOOK}logging.basicConfig(level=logging.INFO, format='own %(message)s')")
    assert shown.splitlines()[0] == "own building"
    assert shown.splitlines()[-1].endswith("own afterwards")


def test_levels_and_handlers_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("toolchain")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(KeyError), show_progress():
        raise KeyError
    assert (logger.level, list(logger.handlers)) == before


def test_an_error_in_a_notebook_is_its_line() -> None:
    error = errors.DataError("data: no such folder")
    assert error._render_traceback_() == ["DataError: data: no such folder"]


def test_a_notebook_shows_the_traceback_to_whoever_debugs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLCHAIN_DEBUG", "1")
    with pytest.raises(NotImplementedError):
        errors.DataError("x")._render_traceback_()
