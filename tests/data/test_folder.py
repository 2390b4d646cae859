"""Image folders: both layouts, decoded lazily, and every bad file named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.preprocessing import decode_and_fit
from tests.data.contract import check_data_set, check_module
from toolchain.data import DataSet, folder, load
from toolchain.errors import DataError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

SIZES = Preprocessing(16, 16, resize=20)
SPEC = DataSpec("folder", "pets")


def write_images(where: Path, count: int, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    random = np.random.default_rng(count)
    for name in classes:
        (where / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (20 + number % 5, 30, 3), np.uint8)
            Image.fromarray(pixels).save(where / name / f"{number:02}.{'png' if number % 2 else 'JPG'}")


def open_pets(base: Path) -> DataSet:
    return load(SPEC, SIZES, base)


def test_train_and_test_folders_satisfy_the_contract(tmp_path: Path) -> None:
    check_module("folder", folder)
    write_images(tmp_path / "pets" / "train", 15)
    write_images(tmp_path / "pets" / "test", 4)
    data = open_pets(tmp_path)
    check_data_set(data, open_pets(tmp_path))
    assert data.classes == ("cat", "dog") and data.source == "pets"
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"certify": 3, "validate": 3, "train": 24, "test": 8}
    first = tmp_path / "pets" / "test" / "cat" / "00.JPG"
    assert np.array_equal(data.split("test").images[0], decode_and_fit(first.read_bytes(), SIZES))


def test_class_folders_alone_satisfy_the_contract(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 15)
    data = open_pets(tmp_path)
    check_data_set(data, open_pets(tmp_path))
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"test": 6, "certify": 2, "validate": 2, "train": 20}
    assert len({int(i) for split in data.splits.values() for i in split.indices}) == 30


def test_val_is_the_test_split_without_test_and_the_validation_split_with_it(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "train", 15)
    write_images(tmp_path / "pets" / "val", 4)
    assert len(open_pets(tmp_path).split("test")) == 8
    write_images(tmp_path / "pets" / "test", 5)
    data = open_pets(tmp_path)
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"certify": 3, "train": 27, "validate": 8, "test": 10}


def test_a_changed_image_changes_the_digest(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 10)
    before = open_pets(tmp_path).sha256
    changed = tmp_path / "pets" / "cat" / "00.JPG"
    changed.write_bytes(changed.read_bytes() + b" ")
    assert open_pets(tmp_path).sha256 != before


def test_a_truncated_image_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 10)
    broken = tmp_path / "pets" / "cat" / "00.JPG"
    broken.write_bytes(broken.read_bytes()[:300])
    data = open_pets(tmp_path)
    with pytest.raises(DataError, match=f"{broken}: not a complete JPEG, .*; replace or remove it"):
        [split.images[:] for split in data.splits.values()]


def check_refusal(base: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_pets(base)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 10)
    (tmp_path / "pets" / ".DS_Store").write_text("ignored")
    (tmp_path / "pets" / "cat" / ".hidden").write_text("ignored")
    open_pets(tmp_path)
    (fake := tmp_path / "pets" / "cat" / "x.jpg").write_text("GIF89a, in truth")
    check_refusal(tmp_path, f"{fake}: not a JPEG or PNG image .starts with b'GIF89a, '.; replace or remove it")
    fake.rename(notes := fake.with_name("notes.txt"))
    check_refusal(tmp_path, f"{notes}: not an image; a class folder holds .jpg, .jpeg, .png files only; remove it")


def test_a_wrong_folder_layout_is_named(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    check_refusal(tmp_path, f"{pets}: no such folder; ")
    pets.mkdir()
    check_refusal(tmp_path, f"{pets}: contains no class folders; expected {pets}/CLASS/")
    (stray := pets / "lost.jpg").write_bytes(b"")
    check_refusal(tmp_path, f"{stray}: is not in a class folder; move it into {pets}/CLASS/")
    stray.unlink()
    write_images(pets / "train", 3)
    check_refusal(tmp_path, f"{pets}: has train/, but neither test/ nor val/ next to it")
    write_images(pets / "test", 3, ("cat", "dgo"))
    check_refusal(tmp_path, f"{pets}/test/dgo: no such class in train/, which has cat, dog")
    (pets / "test" / "dgo").rename(pets / "test" / "dog")
    (pets / "train" / "empty").mkdir()
    check_refusal(tmp_path, f"{pets}/train/empty: an empty class folder; put images into it, or remove it")


def test_a_missing_size_or_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder: its images differ in size; set what the model takes"):
        load(SPEC, None, tmp_path)
    with pytest.raises(DataError, match=r'folder: needs the path of your images: data = \{ name = "folder", path = '):
        load("folder", SIZES)
