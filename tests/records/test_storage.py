"""Files are written completely or not at all."""

from pathlib import Path

import pytest

from toolchain.records.storage import atomic_folder, encode_record, write_atomically


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    place = tmp_path / "x"
    write_atomically(place, b"old")
    with pytest.raises(TypeError):
        write_atomically(place, "not bytes")  # type: ignore[arg-type]  # the failure is what is tested
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_whose_writing_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_folder(tmp_path / "x") as folder:
        (folder / "half").write_text("x")
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "x") as folder:
            (folder / text).write_text(text)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]


def test_the_same_record_gives_the_same_bytes() -> None:
    assert encode_record({"b": 1, "a": [1.5]}) == encode_record({"a": [1.5], "b": 1})
