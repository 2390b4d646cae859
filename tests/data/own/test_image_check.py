"""Every image is decoded once: in parallel, remembered by its bytes, and all bad ones named together."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.preprocessing import decode_and_fit
from toolchain.data.own import image_check
from toolchain.data.own.image_check import check_images
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SIZE = Preprocessing(8, 8)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    (folder := tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is decoded from here on."""
    sizes: list[int] = []

    def note(content: bytes, preprocessing: Preprocessing) -> object:
        sizes.append(len(content))
        return decode_and_fit(content, preprocessing)

    monkeypatch.setattr("toolchain.data.own.image_check.decode_and_fit", note)
    return sizes


def test_an_image_is_decoded_once_wherever_it_lies_and_again_when_it_changed(
    images: list[Path], decoded: list[int]
) -> None:
    folder = images[0].parent
    first = check_images(images, folder, SIZE)
    assert len(decoded) == 40
    images[0] = images[0].rename(folder / "moved.png")
    assert check_images(images, folder, SIZE) == first
    assert len(decoded) == 40
    images[1].write_bytes(images[1].read_bytes() + b" ")
    assert check_images(images, folder, SIZE)[1] != first[1]
    assert len(decoded) == 41


def test_good_images_are_remembered_beside_bad_ones(images: list[Path], decoded: list[int]) -> None:
    images[3].write_bytes(b"\x89PNG")
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 40 files cannot be decoded as images: 03.png \(unknown format\)"):
            check_images(images, images[0].parent, SIZE)
    assert len(decoded) == 40 + 1


def test_many_bad_files_are_counted_and_listed_in_a_file(images: list[Path], home: Path) -> None:
    for path in images[:30]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        check_images(images, images[0].parent, SIZE)
    message = str(caught.value)
    assert "30 of 40 files" in message and "and 20 more, all of them in " in message and "\n" not in message
    (listing,) = (home / "data" / "decoded").glob("*.bad.txt")
    assert str(listing) in message
    assert listing.read_text().splitlines() == [str(path) for path in images[:30]]


def test_what_another_pillow_decoded_is_decoded_again(
    images: list[Path], decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_images(images, images[0].parent, SIZE)
    monkeypatch.setattr(image_check, "HEADER", b"decoded images 1, Pillow 99\n")
    check_images(images, images[0].parent, SIZE)
    assert len(decoded) == 80


def test_a_home_that_cannot_be_written_is_said_and_images_are_checked(
    images: list[Path], home: Path, messages: list[str]
) -> None:
    home.mkdir()
    (home / "data").write_text("a file in the place of a folder")
    assert len(check_images(images, images[0].parent, SIZE)) == 40
    assert any("these images are decoded again by the next build" in line for line in messages)
