"""Image folders: both layouts, decoded lazily, and every bad file named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.preprocessing import decode_and_fit
from tests.data.contract import check_data_set, check_module
from toolchain.data import DataSet, load
from toolchain.data.own import folder
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


def test_a_single_class_is_refused_whatever_the_model_answers(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "train", 3, ("cat",))
    write_images(tmp_path / "pets" / "test", 3, ("cat",))
    with pytest.raises(DataError, match=r"pets: a class folder alone, cat/; expected two or more"):
        open_pets(tmp_path)


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


def check_refusal(base: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_pets(base)
    assert "\n" not in str(caught.value)


def test_all_files_that_are_not_images_are_named_at_once(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 10)
    cats = tmp_path / "pets" / "cat"
    (cats / "00.JPG").write_bytes((cats / "00.JPG").read_bytes()[:-40])
    (cats / "notes.txt").write_text("of cats")
    (cats / "empty.png").touch()
    (cats / "more").mkdir()
    message = f"{tmp_path / 'pets'}: 4 of 23 files cannot be decoded as images: "
    check_refusal(
        tmp_path, message + r"cat/00.JPG \(.*\), cat/empty.png \(.*\), cat/more \(not a file\), cat/notes.txt"
    )


def test_what_systems_leave_in_folders_is_left_out_and_said_once(tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path / "pets", 10)
    before = open_pets(tmp_path)
    pets = tmp_path / "pets"
    for name in ("cat/Thumbs.db", "dog/Thumbs.db", "cat/._00.png", ".DS_Store", "desktop.ini"):
        (pets / name).write_bytes(b"\xd0\xcf\x11\xe0")
    for name in ("__MACOSX/cat", ".ipynb_checkpoints", "dog/.ipynb_checkpoints"):
        (pets / name).mkdir(parents=True)
    after = open_pets(tmp_path)
    assert (after.classes, after.sha256) == (before.classes, before.sha256)
    line = (
        "pets: left out 8 entries that are no images: "
        ".DS_Store (1), ._* (1), .ipynb_checkpoints (2), Thumbs.db (2), __MACOSX (1), desktop.ini (1)"
    )
    assert [text for text in messages if "left out" in text] == [line]


def test_a_file_is_what_its_content_says_whatever_its_suffix(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", 10)
    cats = tmp_path / "pets" / "cat"
    pixels = open_pets(tmp_path).split("train").images[:]
    (cats / "00.JPG").rename(cats / "00.jfif")
    (cats / "02.JPG").rename(cats / "02.png")
    (cats / "01.png").rename(cats / "01")
    assert np.array_equal(open_pets(tmp_path).split("train").images[:], pixels)


def test_folders_are_named_as_people_name_them(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "Training", 15)
    write_images(tmp_path / "pets" / "valid", 4)
    assert len(open_pets(tmp_path).split("test")) == 8
    write_images(tmp_path / "pets" / "test", 5)
    assert len(open_pets(tmp_path).split("validate")) == 8
    (tmp_path / "pets" / "validation").mkdir()
    check_refusal(tmp_path, f"{tmp_path}/pets: valid/ and validation/ mean the same; keep one of them")


def test_a_test_set_alone_is_divided(tmp_path: Path) -> None:
    write_images(tmp_path / "pets" / "test", 15)
    data = open_pets(tmp_path)
    check_data_set(data, open_pets(tmp_path))
    assert len({int(i) for split in data.splits.values() for i in split.indices}) == 30
    assert {name: len(split) for name, split in data.splits.items()} == {
        "test": 15,
        "certify": 1,
        "validate": 1,
        "train": 13,  # half of it stays the test split
    }
    write_images(tmp_path / "pets" / "val", 15)
    check_refusal(tmp_path, f"{tmp_path}/pets: has test/ and val/, but no train/; rename the one to train on")


def test_accents_are_one_name_however_a_system_writes_them(tmp_path: Path) -> None:
    composed, decomposed = "K\u00e4se", "Ka\u0308se"
    write_images(tmp_path / "pets" / "train", 15, ("Brot", composed))
    write_images(tmp_path / "pets" / "test", 4, ("Brot", decomposed))
    data = open_pets(tmp_path)
    assert data.classes == ("Brot", composed)
    assert np.bincount(data.split("test").labels).tolist() == [4, 4]
    digest = data.sha256
    for part in ("train", "test"):
        for path in (tmp_path / "pets" / part).iterdir():
            path.rename(path.with_name(path.name.replace(composed, decomposed)))
    assert open_pets(tmp_path).sha256 == digest


def test_classes_with_few_or_no_test_images_are_named_in_a_line(tmp_path: Path, messages: list[str]) -> None:
    write_images(tmp_path / "pets" / "train", 15, ("ant", "bee", "cat"))
    write_images(tmp_path / "pets" / "train", 2, ("dog",))
    write_images(tmp_path / "pets" / "test", 4, ("ant", "bee"))
    open_pets(tmp_path)
    line = (
        "pets: 2 of 4 classes have fewer than 10 training images or no test image: 'cat' 15 and 0, 'dog' 2 and 0 "
        "(training and test images); their accuracy says little"
    )
    assert line in messages


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
