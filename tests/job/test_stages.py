"""Stages are made once, kept whole, and gone on with after an interruption."""

from pathlib import Path

import pytest

from toolchain.job.stages import Stages, code_digest, keep, kept, tool_versions


def test_a_stage_is_made_once_for_the_same_inputs(tmp_path: Path, messages: list[str]) -> None:
    made: list[int] = []

    def make(folder: Path, _: Path) -> None:
        made.append(1)
        keep(folder, {"answer": 42})

    first = Stages(tmp_path).made("one", "One", {"a": 1}, make)
    again = Stages(tmp_path).made("one", "One", {"a": 1}, make)
    assert first == again
    assert kept(again, dict[str, int]) == {"answer": 42}
    assert made == [1]
    assert messages == ["One ...", "One: unchanged"]


def test_other_inputs_are_another_stage(tmp_path: Path) -> None:
    made: list[int] = []
    for value in (1, 2):
        Stages(tmp_path).made("one", "One", {"a": value}, lambda *_: made.append(1))
    assert made == [1, 1]


def test_an_interrupted_stage_leaves_no_result_but_its_work(tmp_path: Path, messages: list[str]) -> None:
    def killed(folder: Path, work: Path) -> None:
        (folder / "half").write_text("x")
        (work / "epoch-1").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path).made("one", "One", {}, killed)
    assert not list(tmp_path.rglob("half"))

    def goes_on(folder: Path, work: Path) -> None:
        (folder / "whole").write_text((work / "epoch-1").read_text())

    result = Stages(tmp_path).made("one", "One", {}, goes_on)
    assert (result / "whole").read_text() == "kept"
    assert messages[1:] == ["One: going on where it was interrupted"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".work"]


def test_the_code_digest_changes_with_the_code_and_not_with_the_order_of_rooms() -> None:
    assert code_digest("toolchain/data", "toolchain/models") == code_digest("toolchain/models", "toolchain/data")
    assert code_digest("toolchain/data") != code_digest("toolchain/models")


def test_a_tool_that_is_not_installed_has_an_empty_version() -> None:
    assert tool_versions("no-such-tool") == {"no-such-tool": ""}


def test_a_failure_leaves_nothing_and_the_next_run_starts_afresh(tmp_path: Path, messages: list[str]) -> None:
    def fails(folder: Path, work: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            Stages(tmp_path).made("one", "One", {}, fails)
    assert messages == ["One ...", "One ..."]
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_build_left_half_made_is_swept(tmp_path: Path) -> None:
    first = Stages(tmp_path).made("one", "One", {}, lambda *_: None)
    half, others = tmp_path / f".{first.name}.x1y2", tmp_path / ".two-0123.x1y2"
    for folder in (half, others):
        folder.mkdir()
        (folder / "half").write_text("x")
    first.rmdir()
    Stages(tmp_path).made("one", "One", {}, lambda *_: None)
    assert (half.exists(), others.exists()) == (False, True)
