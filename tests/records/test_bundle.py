"""A bundle is verified to the last byte when it is opened."""

from pathlib import Path

import msgspec
import pytest

from tests.bundles import null_bundle
from toolchain.errors import RecordError
from toolchain.records.bundle import MANIFEST, open_bundle


def test_a_bundle_opens_as_it_was_written(tmp_path: Path) -> None:
    written = null_bundle(tmp_path / "x.bundle")
    opened = open_bundle(tmp_path / "x.bundle")
    assert opened == written
    assert opened.manifest.serving.precision == "fp32"
    assert opened.read_arrays("certify.npz")["images"].shape == (12, 8, 8, 3)


def test_the_same_bundle_has_the_same_digest(tmp_path: Path) -> None:
    first, second = null_bundle(tmp_path / "a.bundle"), null_bundle(tmp_path / "b.bundle")
    assert first.digest == second.digest
    assert first.digest != null_bundle(tmp_path / "c.bundle", release="2").digest


@pytest.mark.parametrize("name", ["model.null.json", "sample.npz", "certify.npz"])
def test_a_changed_byte_is_refused_with_the_files_name(tmp_path: Path, name: str) -> None:
    folder = null_bundle(tmp_path / "x.bundle").folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(RecordError, match=f"{name}: changed since the bundle was written"):
        open_bundle(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = null_bundle(tmp_path / "x.bundle").folder
    (folder / "sample.npz").unlink()
    with pytest.raises(RecordError, match=r"sample\.npz: missing"):
        open_bundle(folder)


def test_a_file_that_the_manifest_does_not_list_is_named(tmp_path: Path) -> None:
    folder = null_bundle(tmp_path / "x.bundle").folder
    (folder / "extra.so").write_text("x")
    with pytest.raises(RecordError, match=r"extra\.so: not listed"):
        open_bundle(folder)


def test_a_folder_that_is_not_a_bundle_is_refused_with_the_command_that_builds_one(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"not a bundle .* toolchain build"):
        open_bundle(tmp_path)


def test_a_manifest_of_a_newer_format_requires_a_newer_toolchain(tmp_path: Path) -> None:
    folder = null_bundle(tmp_path / "x.bundle").folder
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(msgspec.json.encode({**manifest, "format": 99}))
    with pytest.raises(RecordError, match="format 99; this toolchain reads 1 to 6; update the toolchain"):
        open_bundle(folder)


def test_a_manifest_with_an_unknown_key_is_refused_with_its_place(tmp_path: Path) -> None:
    folder = null_bundle(tmp_path / "x.bundle").folder
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(msgspec.json.encode({**manifest, "colour": "red"}))
    with pytest.raises(RecordError, match=r"manifest\.json: .*colour"):
        open_bundle(folder)
