"""Questions are for people at a terminal."""

import io

import pytest

from toolchain.errors import UsageError
from toolchain.init.questions import Asker, asker


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert asker(yes=False).confirm("really?")


def test_a_person_may_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert not Asker(may_ask=True).confirm("really?")


def test_no_answer_at_all_names_the_flag_that_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="--yes"):
        Asker(may_ask=True).confirm("really?")
