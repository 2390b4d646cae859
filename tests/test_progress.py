"""Progress: nothing in a library, a bar on a terminal, lines in a pipe, and every item in order."""

import sys

import pytest

from tests.house.tree import ROOT
from tests.terminal import on_terminal
from toolchain.cli.console import console
from toolchain.progress import track

TERMINAL = """
import logging, time
from toolchain.cli.console import log_to_stderr
from toolchain.progress import track
log_to_stderr()
for item in track(range(3), "epoch [1]"):
    time.sleep(0.15)
    logging.getLogger("toolchain.x").info(f"item {item}")
"""


def test_a_library_prints_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "images")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_an_occasional_progress_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolchain.progress.EVERY_S", 0.0)
    with console():
        assert list(track(iter("ab"), "images", 2)) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["  images: 1/2, 0 s left", "  images: 2/2, 0 s left"]


def test_a_terminal_gets_a_bar_below_the_messages() -> None:
    text = on_terminal([sys.executable, "-c", TERMINAL], ROOT)
    assert "epoch [1]" in text
    assert "2/3" in text
    assert [line for line in ("item 0", "item 1", "item 2") if line not in text] == []
