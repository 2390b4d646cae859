"""A folder of images without labels, at any depth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolchain.data import load
from toolchain.data.own import images
from toolchain.errors import DataError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

SHAPE = Preprocessing(4, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images in two folders, and what an operating system leaves there."""
    random = np.random.default_rng(0)
    for number in range(20):
        place = tmp_path / "photos" / ("a", "b/c")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).save(place)
    (tmp_path / "photos" / "a" / "Thumbs.db").write_bytes(b"x")
    return tmp_path


def test_images_at_any_depth_are_for_calibration_and_comparison(folder: Path) -> None:
    data = load(DataSpec("images", "photos"), SHAPE, folder)
    assert (data.classes, data.source) == ((), "photos")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 18,
        "validate": 2,
        "certify": 0,
        "test": 0,
    }
    taken = [*data.split("train").indices, *data.split("validate").indices]
    assert sorted(taken) == list(range(20))
    assert data.split("train").images[:].shape == (18, 4, 4, 3)
    (folder / "photos" / "a" / "0.png").unlink()
    assert load(DataSpec("images", "photos"), SHAPE, folder).sha256 != data.sha256


def test_what_holds_no_images_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no images; put some"):
        images.open_dataset(folder / "empty", SHAPE)
    with pytest.raises(DataError, match=r"none: no such folder; \[calibration\] images expects one"):
        images.open_dataset(folder / "none", SHAPE)
    (folder / "photos" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt"):
        images.open_dataset(folder / "photos", SHAPE)
