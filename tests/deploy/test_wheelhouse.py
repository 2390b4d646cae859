from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy.wheelhouse import wheelhouse
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


def test_wheels_are_downloaded_once(lock: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = wheelhouse([lock], said.append, tmp_path / "home")
    assert [wheel.name for wheel in folder.iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    assert wheelhouse([lock], said.append, tmp_path / "home") == folder
    assert said == ["downloading the image's wheels (lock.txt)"]


def test_a_wheel_that_changed_is_refused(lock: Path, tmp_path: Path) -> None:
    folder = wheelhouse([lock], print, tmp_path / "home")
    with (folder / "tiny-1.0-py3-none-any.whl").open("ab") as wheel:
        wheel.write(b"x")
    with pytest.raises(
        DockerError, match=r"tiny-1\.0-py3-none-any\.whl: its hash is in no lock; remove .* and try again"
    ):
        wheelhouse([lock], print, tmp_path / "home")


def test_a_wheel_with_another_hash_than_the_lock_leaves_no_folder(lock: Path, tmp_path: Path) -> None:
    lock.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(DockerError, match=r"lock\.txt: the wheels could not be downloaded"):
        wheelhouse([lock], print, tmp_path / "home")
    assert list((tmp_path / "home" / "wheelhouse").iterdir()) == []
