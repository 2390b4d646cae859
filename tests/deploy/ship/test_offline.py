"""Offline bundles: read back as written, or refused with a reason."""

import io
import tarfile
from pathlib import Path

import pytest

from deploy.docker.archive import ImageContent
from deploy.docker.labels import ReleaseLabels
from deploy.servers.release_image import ReleaseImage
from deploy.servers.server import ShipError
from deploy.ship import offline
from deploy.ship.offline import CONTENTS, open_offline_bundle, write_offline_bundle
from toolchain.errors import RecordError, UsageError

CONTENT = ImageContent("sha256:ab", 4, ("a", "b", "c"), (1, 2, 3))
LABELS = ReleaseLabels("net", "2", "resnet20", "b" * 64, "openvino")
SENT = ReleaseImage("edge-net:2", CONTENT, LABELS, "amd64", b"\x00signed")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle for two servers, one of which had two layers."""
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))

    def archive_without(present: int) -> tuple[int, Path]:
        file = tmp_path / f"{present}.tar.gz"
        file.write_bytes(b"layers from %d" % present)
        return present, file

    monkeypatch.setattr(offline, "archive_provider", lambda client, parcel: archive_without)
    monkeypatch.setattr(
        offline, "last_known_layers", lambda server: [("a", "b", "x")] if server == "line-1" else [("a",)]
    )
    write_offline_bundle(None, SENT, ("line-1", "line-2"), tmp_path / "stick.tar")  # type: ignore[arg-type]  # no engine
    return tmp_path / "stick.tar"


def test_each_server_gets_the_smallest_archive_that_fits_it(place: Path) -> None:
    with open_offline_bundle(place) as (sent, archive_without):
        assert sent == SENT
        assert [(count, file.read_bytes()) for count, file in map(archive_without, (1, 2, 3))] == [
            (1, b"layers from 1"),
            (2, b"layers from 2"),
            (2, b"layers from 2"),
        ]
        with pytest.raises(
            ShipError, match="leaves out 1 layers, of which the server has only 0: pack it again without"
        ):
            archive_without(0)


def changed(place: Path, name: str, content: bytes) -> None:
    with tarfile.open(place) as archive:
        files = {one: archive.extractfile(one).read() for one in archive.getnames()}  # type: ignore[union-attr]  # all are files
    files[name] = content
    with tarfile.open(place, "w") as archive:
        for one, held in files.items():
            entry = tarfile.TarInfo(one)
            entry.size = len(held)
            archive.addfile(entry, io.BytesIO(held))


def test_an_archive_that_was_changed_is_refused(place: Path) -> None:
    changed(place, "image-1.tar.gz", b"layers from 7")
    with pytest.raises(ShipError, match=r"image-1\.tar\.gz in it was changed or truncated"), open_offline_bundle(place):
        pass


def test_a_file_that_is_no_offline_bundle_is_refused(place: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(place.read_bytes()[:600])
    for other in (cut, tmp_path / "nowhere.tar", tmp_path):
        with pytest.raises(UsageError, match="not an offline bundle"), open_offline_bundle(other):
            pass
    changed(place, CONTENTS, b"{}")
    with pytest.raises((RecordError, UsageError), match=r"stick\.tar"), open_offline_bundle(place):
        pass
