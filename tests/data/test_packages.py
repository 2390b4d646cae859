"""Registry clients: the messages when one is missing, fails, or returns another file."""

import sys
from pathlib import Path

import pytest

from tests.data.contract import sha256_of
from toolchain.data.packages import DebianFiles, NpmPackage, PypiWheel, run_client
from toolchain.errors import DataError


def test_a_failing_client_is_reported_with_its_last_output_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('first'); print('no such package'); raise SystemExit(3)"]
    with pytest.raises(DataError, match=r"^the client: no such package \(exit 3\)$"):
        run_client(command, tmp_path, "the client")


def test_a_missing_client_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-such-client: No such file or directory; install it"):
        run_client(["no-such-client"], tmp_path, "nobody")


def test_without_npm_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"npm is not installed.*apt-get install npm"):
        NpmPackage("x", "1", "sha256:0").obtain(tmp_path)


def test_an_intact_archive_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("x-1.tgz", "x-1-py3-none-any.whl"):
        (tmp_path / name).write_bytes(b"kept")
    digest = sha256_of(tmp_path / "x-1.tgz")
    assert NpmPackage("x", "1", digest).obtain(tmp_path) == {"x-1.tgz": digest}
    assert PypiWheel("x", "1", digest).obtain(tmp_path) == {"x-1-py3-none-any.whl": digest}


def test_installed_files_are_copied_and_verified(tmp_path: Path) -> None:
    installed, folder = tmp_path / "installed", tmp_path / "archives"
    installed.mkdir()
    folder.mkdir()
    (installed / "a.gz").write_bytes(b"a")
    digest = sha256_of(installed / "a.gz")
    assert DebianFiles("set", str(installed), {"a.gz": digest}).obtain(folder) == {"a.gz": digest}
    with pytest.raises(DataError, match=r"a.gz: corrupt, or changed at its source"):
        DebianFiles("set", str(installed), {"a.gz": "sha256:0"}).obtain(folder)
    with pytest.raises(DataError, match=r"set contains no b.gz in"):
        DebianFiles("set", str(installed), {"b.gz": digest}).obtain(folder)
    assert (installed / "a.gz").exists()
