"""What is made of files is made anew when they change, and stays while they are broken."""

import json
import os
from pathlib import Path

import pytest

from deploy.runtime.logs import Log
from deploy.runtime.security.reload import Reloadable, read_file
from toolchain.errors import UsageError


def number_in(file: Path) -> int:
    text = read_file("--number", file)
    if not text.isdigit():
        raise UsageError(f"--number {file}: expected a number")
    return int(text)


def renewed(file: Path, *warnings: str) -> Reloadable[int]:
    return Reloadable("number", (file,), lambda: number_in(file), Log(), lambda: list(warnings))


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "n"
    file.write_text("1")
    found = renewed(file)
    found.poll()
    assert events(capsys) == []
    file.write_text("22")
    found.poll()
    assert found.value == 22
    assert [(one["event"], one["what"]) for one in events(capsys)] == [("renewed", "number")]


def test_a_link_that_is_turned_to_another_file_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes renews what it mounts; here both files are as large and as old."""
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (0, 0))
    link = tmp_path / "link"
    link.symlink_to("old")
    found = renewed(link)
    link.unlink()
    link.symlink_to("new")
    found.poll()
    assert found.value == 2


def test_while_a_file_is_broken_or_gone_the_old_value_goes_on_and_the_log_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "n"
    file.write_text("1")
    found = renewed(file)
    file.write_text("two")
    found.poll()
    found.poll()
    file.unlink()
    found.poll()
    assert found.value == 1
    told = [(one["level"], one["event"], one["reason"]) for one in events(capsys)]
    assert told[0] == ("error", "not renewed", f"--number {file}: expected a number; the old one stays in use")
    assert "No such file or directory" in told[1][2]
    assert len(told) == 2
    file.write_text("3")
    found.poll()
    assert found.value == 3


def test_the_first_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        renewed(tmp_path / "nothing")


def test_warnings_are_told_again_each_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, now = tmp_path / "n", [0.0]
    file.write_text("1")
    found = Reloadable("number", (file,), lambda: number_in(file), Log(), lambda: ["old"], lambda: now[0])
    for hours in (1, 23, 25, 26, 48, 50):
        now[0] = hours * 3600.0
        found.poll()
    assert [one["text"] for one in events(capsys)] == ["old"] * 3


def test_warnings_are_told_at_each_making(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "n"
    file.write_text("1")
    found = renewed(file, "odd")
    file.write_text("11")
    found.poll()
    assert [one.get("text") for one in events(capsys)] == ["odd", None, "odd"]
