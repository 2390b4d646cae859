"""fetch and load as a user calls them, with a server on this machine."""

import json
from pathlib import Path

import pytest

from tests.data.conftest import Server
from tests.data.contract import sha256_of
from tests.data.test_cifar10 import write_official
from toolchain.data import NAMES, cifar10, fetch, load
from toolchain.data.dataset import DataSource
from toolchain.data.downloads import Downloads, RemoteFile
from toolchain.errors import DataError
from toolchain.recipe import DataSpec


@pytest.fixture
def offered(server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The small CIFAR-10 as official source, and a mirror that does not exist."""
    write_official(tmp_path)
    archive = tmp_path / cifar10.OFFICIAL.name
    server.files[archive.name] = archive.read_bytes()
    official = RemoteFile(f"{server.url}/{archive.name}", sha256_of(archive))
    absent = RemoteFile(f"{server.url}/absent.tgz", "md5:0")
    sources = {
        "official": DataSource(Downloads((official,)), cifar10.unpack_official),
        "mirror": DataSource(Downloads((absent,)), cifar10.unpack_mirror),
    }
    monkeypatch.setattr(cifar10, "SOURCES", sources)
    return server


def test_load_fetches_a_missing_data_set_once(offered: Server, home: Path) -> None:
    data = load("cifar10")
    assert data.source == "official" and load("cifar10").sha256 == data.sha256
    assert json.loads((home / "data" / "cifar10" / "source.json").read_bytes())["source"] == "official"
    assert len(offered.ranges) == 1
    assert not (home / "data" / ".archives" / "cifar10").exists()


def test_fetch_reports_which_source_it_used(offered: Server, tmp_path: Path, messages: list[str]) -> None:
    folder = fetch("cifar10", home=tmp_path / "elsewhere")
    assert folder == tmp_path / "elsewhere" / "data" / "cifar10"
    assert f"cifar10: from its official source, in {folder}" in "\n".join(messages)
    fetch("cifar10", home=tmp_path / "elsewhere")
    assert "already here" in "\n".join(messages)
    assert len(offered.ranges) == 1


def test_when_every_source_fails_one_line_gives_each_reason(offered: Server, home: Path) -> None:
    offered.files.clear()
    with pytest.raises(DataError) as caught:
        load("cifar10")
    message = str(caught.value)
    assert "official: " in message and "mirror: " in message and "HTTP 404" in message and "\n" not in message
    assert message.endswith("toolchain data fetch cifar10")
    assert not (home / "data" / "cifar10").exists()


def test_auto_falls_back_to_the_mirror(
    offered: Server, home: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    sources = {"official": cifar10.SOURCES["mirror"], "mirror": cifar10.SOURCES["official"]}
    monkeypatch.setattr(cifar10, "SOURCES", sources)
    assert load("cifar10").source == "mirror"
    assert "cifar10: official: " in "\n".join(messages)


def test_a_corrupt_archive_leaves_nothing_behind(offered: Server, home: Path) -> None:
    offered.files[cifar10.OFFICIAL.name] = b"not the archive"
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz.*: corrupt, or changed at its source"):
        fetch("cifar10", "official")
    assert not (home / "data" / "cifar10").exists()


def test_fetch_replaces_a_corrupt_data_set(offered: Server, home: Path) -> None:
    images = fetch("cifar10") / "test_images.npy"
    images.write_bytes(b"overwritten")
    with pytest.raises(DataError, match=f"{images}: missing, or changed since it was fetched"):
        load("cifar10")
    fetch("cifar10")
    assert len(load("cifar10").split("test")) == 20


def test_a_folder_that_cannot_be_written_is_named(offered: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"/file/.*: Not a directory; cifar10 was not fetched"):
        fetch("cifar10", home=tmp_path / "file")


def test_unknown_names_and_sources_are_answered_with_the_known_ones(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ", ".join(NAMES)
    with pytest.raises(DataError, match=f"no data set 'cifar-10'; the data sets are: {known}; did you mean cifar10?"):
        load("cifar-10")
    with pytest.raises(DataError, match="svhn: no source 'mirror'; it has: official, auto"):
        fetch("svhn", "mirror")
    with pytest.raises(DataError, match="folder: your own images, nothing to fetch"):
        fetch("folder")
    with pytest.raises(DataError, match=r"cifar10: takes no path \('x'\); remove it, or"):
        load(DataSpec("cifar10", "x"))
