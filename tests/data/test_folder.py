"""Image folders: both layouts, lazily decoded, and every bad file named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.preprocessing import picture_array
from tests.data.contract import check_data_set, check_room
from toolchain.data import DataSet, folder, load
from toolchain.errors import DataError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

SIZES = Preprocessing(16, 16, resize=20)
SPEC = DataSpec("folder", "pets")


def pictures(where: Path, count: int, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    random = np.random.default_rng(count)
    for name in classes:
        (where / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (20 + number % 5, 30, 3), np.uint8)
            Image.fromarray(pixels).save(where / name / f"{number:02}.{'png' if number % 2 else 'JPG'}")


def opened(base: Path) -> DataSet:
    return load(SPEC, SIZES, base)


def test_it_keeps_the_contract_with_train_and_test(tmp_path: Path) -> None:
    check_room("folder", folder)
    pictures(tmp_path / "pets" / "train", 15)
    pictures(tmp_path / "pets" / "test", 4)
    data = opened(tmp_path)
    check_data_set(data, opened(tmp_path))
    assert data.classes == ("cat", "dog") and data.source == "pets"
    assert {name: len(part) for name, part in data.splits.items()} == {
        "certify": 3,
        "validate": 3,
        "train": 24,
        "test": 8,
    }
    first = tmp_path / "pets" / "test" / "cat" / "00.JPG"
    assert np.array_equal(data.split("test").images[0], picture_array(first.read_bytes(), SIZES))


def test_it_keeps_the_contract_with_classes_alone(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", 15)
    data = opened(tmp_path)
    check_data_set(data, opened(tmp_path))
    counts = {name: len(part) for name, part in data.splits.items()}
    assert counts == {"test": 6, "certify": 2, "validate": 2, "train": 20}
    assert len({int(i) for part in data.splits.values() for i in part.indices}) == 30


def test_val_is_the_test_part_alone_and_the_validation_part_beside_test(tmp_path: Path) -> None:
    pictures(tmp_path / "pets" / "train", 15)
    pictures(tmp_path / "pets" / "val", 4)
    assert len(opened(tmp_path).split("test")) == 8
    pictures(tmp_path / "pets" / "test", 5)
    data = opened(tmp_path)
    assert {name: len(part) for name, part in data.splits.items()} == {
        "certify": 3,
        "train": 27,
        "validate": 8,
        "test": 10,
    }


def test_a_changed_picture_changes_the_digest(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", 10)
    before = opened(tmp_path).sha256
    changed = tmp_path / "pets" / "cat" / "00.JPG"
    changed.write_bytes(changed.read_bytes() + b" ")
    assert opened(tmp_path).sha256 != before


def test_a_picture_cut_short_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", 10)
    broken = tmp_path / "pets" / "cat" / "00.JPG"
    broken.write_bytes(broken.read_bytes()[:300])
    data = opened(tmp_path)
    with pytest.raises(DataError, match=f"{broken}: not a whole JPEG or PNG picture .*; replace or remove it"):
        [part.images[:] for part in data.splits.values()]


def refused(base: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened(base)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    pictures(tmp_path / "pets", 10)
    (tmp_path / "pets" / ".DS_Store").write_text("ignored")
    (tmp_path / "pets" / "cat" / ".hidden").write_text("ignored")
    opened(tmp_path)
    (fake := tmp_path / "pets" / "cat" / "x.jpg").write_text("GIF89a, in truth")
    refused(tmp_path, f"{fake}: not a JPEG or PNG picture .starts with b'GIF89a, '.; replace or remove it")
    fake.rename(notes := fake.with_name("notes.txt"))
    refused(tmp_path, f"{notes}: not a picture; a class folder holds .jpg, .jpeg, .png files only; remove it")


def test_folders_that_do_not_fit_are_named(tmp_path: Path) -> None:
    pets = tmp_path / "pets"
    refused(tmp_path, f"{pets}: no such folder; ")
    pets.mkdir()
    refused(tmp_path, f"{pets}: no class folders in it; expected {pets}/CLASS/")
    (stray := pets / "lost.jpg").write_bytes(b"")
    refused(tmp_path, f"{stray}: lies outside a class folder; move it into {pets}/CLASS/")
    stray.unlink()
    pictures(pets / "train", 3)
    refused(tmp_path, f"{pets}: has train/, but neither test/ nor val/ beside it")
    pictures(pets / "test", 3, ("cat", "dgo"))
    refused(tmp_path, f"{pets}/test/dgo: no such class in train/, which has cat, dog")
    (pets / "test" / "dgo").rename(pets / "test" / "dog")
    (pets / "train" / "empty").mkdir()
    refused(tmp_path, f"{pets}/train/empty: an empty class folder; put pictures into it, or remove it")


def test_without_a_size_or_a_path_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder: its pictures differ in size; say what the network takes"):
        load(SPEC, None, tmp_path)
    with pytest.raises(DataError, match=r'folder: needs the path of your pictures: data = \{ name = "folder", path = '):
        load("folder", SIZES)
