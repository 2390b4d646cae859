"""Stages are made once, kept whole, and gone on with after an interruption."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolchain.job.stage import Stage, tool_versions
from toolchain.job.stage_cache import StageCache


def stage(make: Callable[[Path, Path], Any], **inputs: object) -> Stage[Any]:
    return Stage("one", "One", Any, inputs, make)


def test_a_stage_is_made_once_for_the_same_inputs(tmp_path: Path, messages: list[str]) -> None:
    calls: list[int] = []

    def make(folder: Path, _: Path) -> dict[str, int]:
        calls.append(1)
        (folder / "file").write_text("content")
        return {"answer": 42}

    first = StageCache(tmp_path).run(stage(make, a=1))
    again = StageCache(tmp_path).run(stage(make, a=1))
    assert first == again
    assert (again.record, (again.folder / "file").read_text()) == ({"answer": 42}, "content")
    assert calls == [1]
    assert messages == ["One ...", "One: unchanged"]


def test_other_inputs_or_another_seed_are_another_stage(tmp_path: Path) -> None:
    calls: list[int] = []
    keys = {
        StageCache(tmp_path, seed).run(stage(lambda *_: calls.append(1), a=value)).key
        for seed, value in ((0, 1), (0, 2), (1, 1))
    }
    assert (len(keys), calls) == (3, [1, 1, 1])


def test_the_code_of_a_function_that_is_handed_in_counts_too(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    plain = Stage("one", "One", Any, {}, tool_versions)
    assert cache.place(plain) != cache.place(Stage("one", "One", Any, {}, tool_versions, uses=(stage,)))


def test_an_interrupted_stage_leaves_no_result_but_its_work(tmp_path: Path, messages: list[str]) -> None:
    def interrupt(folder: Path, work: Path) -> None:
        (folder / "half").write_text("x")
        (work / "epoch-1").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StageCache(tmp_path).run(stage(interrupt))
    assert not list(tmp_path.rglob("half"))

    def go_on(folder: Path, work: Path) -> None:
        (folder / "whole").write_text((work / "epoch-1").read_text())

    result = StageCache(tmp_path).run(stage(go_on))
    assert (result.folder / "whole").read_text() == "kept"
    assert messages[1:] == ["One: going on where it was interrupted"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".work"]


def test_a_tool_that_is_not_installed_has_an_empty_version() -> None:
    assert tool_versions("no-such-tool") == {"no-such-tool": ""}


def test_a_failure_leaves_nothing_and_the_next_run_starts_afresh(tmp_path: Path, messages: list[str]) -> None:
    def fail(folder: Path, work: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            StageCache(tmp_path).run(stage(fail))
    assert messages == ["One ...", "One ..."]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".lock"]


def test_what_a_killed_build_left_half_made_is_swept(tmp_path: Path) -> None:
    first = StageCache(tmp_path).run(stage(lambda *_: None)).folder
    half, others = tmp_path / f".{first.name}.x1y2", tmp_path / ".two-0123.x1y2"
    for folder in (half, others):
        folder.mkdir()
        (folder / "half").write_text("x")
    shutil.rmtree(first)
    StageCache(tmp_path).run(stage(lambda *_: None))
    assert (half.exists(), others.exists()) == (False, True)
