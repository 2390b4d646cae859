import tarfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy.images.wheelhouse import built_lines, fill_wheelhouse
from toolchain.errors import DockerError


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one small wheel that pip finds in a folder, with no network."""
    shop = tmp_path / "shop"
    shop.mkdir()
    wheel = shop / "tiny-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    written = tmp_path / "lock.txt"
    written.write_text(f"tiny==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n")
    return written


def test_wheels_are_downloaded_once(lock: Path, tmp_path: Path, messages: list[str]) -> None:
    folder = fill_wheelhouse([lock], tmp_path / "home")
    assert [wheel.name for wheel in folder.iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    assert fill_wheelhouse([lock], tmp_path / "home") == folder
    assert messages == ["downloading the image's wheels (lock.txt)"]


def test_a_wheel_that_changed_is_refused(lock: Path, tmp_path: Path) -> None:
    folder = fill_wheelhouse([lock], tmp_path / "home")
    with (folder / "tiny-1.0-py3-none-any.whl").open("ab") as wheel:
        wheel.write(b"x")
    with pytest.raises(
        DockerError, match=r"tiny-1\.0-py3-none-any\.whl: its hash is not in any lock file; remove .* and try again"
    ):
        fill_wheelhouse([lock], tmp_path / "home")


def test_a_wheel_with_another_hash_than_the_lock_leaves_no_folder(lock: Path, tmp_path: Path) -> None:
    lock.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(DockerError, match=r"lock\.txt: the wheels could not be downloaded"):
        fill_wheelhouse([lock], tmp_path / "home")
    assert list((tmp_path / "home" / "wheelhouse").iterdir()) == []


def source(shop: Path, backend: str) -> Path:
    """A lock of a package that is a source alone, whose build step is `backend`: what a vendor's own index needs."""
    place = shop / "odd-1.0.tar.gz"
    project = '[build-system]\nrequires = []\nbuild-backend = "making"\nbackend-path = ["."]\n'
    with tarfile.open(place, "w:gz") as archive:
        for name, text in {"pyproject.toml": project, "making.py": backend, "PKG-INFO": METADATA}.items():
            entry = tarfile.TarInfo(f"odd-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, BytesIO(text.encode()))
    listed = shop.parent / "sources.txt"
    listed.write_text(f"odd==1.0 --hash=sha256:{sha256(place.read_bytes()).hexdigest()}\n")
    return listed


METADATA = "Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n"
MAKES = """
from pathlib import Path
from zipfile import ZipFile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with ZipFile(Path(folder) / "odd-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("odd.py", "")
        archive.writestr("odd-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: odd\\nVersion: 1.0\\n")
        archive.writestr("odd-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("odd-1.0.dist-info/RECORD", "")
    return "odd-1.0-py3-none-any.whl"
"""


def test_source_packages_are_built_and_listed_with_the_hash_of_what_was_built(lock: Path, tmp_path: Path) -> None:
    listed = source(tmp_path / "shop", MAKES)
    folder = fill_wheelhouse([lock], tmp_path / "home", [listed])
    wheel = folder / "odd-1.0-py3-none-any.whl"
    assert built_lines(folder) == f"odd==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"
    assert fill_wheelhouse([lock], tmp_path / "home", [listed]) == folder
    assert built_lines(fill_wheelhouse([lock], tmp_path / "home")) == ""


def test_a_build_step_that_cannot_reach_its_vendor_is_told_in_a_line(lock: Path, tmp_path: Path) -> None:
    listed = source(tmp_path / "shop", "def build_wheel(*_):\n    raise OSError('no such host')\n")
    with pytest.raises(
        DockerError, match=r"sources\.txt: could not be built \(.*\); the vendor's own package"
    ) as caught:
        fill_wheelhouse([lock], tmp_path / "home", [listed])
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "home" / "wheelhouse").iterdir()) == []
