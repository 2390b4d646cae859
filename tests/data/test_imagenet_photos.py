"""The photos, from a wheel like foolbox's."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.contract import check_data_set, check_module, unpack_as_fetched
from toolchain.data import imagenet_photos, load
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SIZES = Preprocessing(24, 24, resize=28)
WHEEL = "foolbox-3.3.4-py3-none-any.whl"


def write(path: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG")
            wheel.writestr(f"foolbox/data/{name}", file.getvalue())


def test_it_satisfies_the_contract_and_all_photos_are_in_the_test_split(home: Path, tmp_path: Path) -> None:
    check_module("imagenet-photos", imagenet_photos)
    write(tmp_path / WHEEL, ("imagenet_00_243.jpg", "imagenet_01_99.jpg", "cifar10_00_3.jpg"))
    unpack_as_fetched(home, "imagenet-photos", imagenet_photos.unpack, tmp_path)
    data = load("imagenet-photos", SIZES)
    check_data_set(data, load("imagenet-photos", SIZES))
    assert data.split("test").labels.tolist() == [243, 99] and len(data.split("train")) == 0
    assert len(data.classes) == 1000 and data.classes[243] == "bull mastiff" and data.classes[99] == "goose"


def test_a_wrong_wheel_is_named(home: Path, tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"PK, or not")
    with pytest.raises(DataError, match=f"{WHEEL}: not a complete wheel"):
        imagenet_photos.unpack(tmp_path, tmp_path)
    write(tmp_path / WHEEL, ("other.jpg",))
    with pytest.raises(DataError, match=f"{WHEEL}: contains no imagenet_"):
        imagenet_photos.unpack(tmp_path, tmp_path)
    write(tmp_path / WHEEL, ("imagenet_00_1000.jpg",))
    unpack_as_fetched(home, "imagenet-photos", imagenet_photos.unpack, tmp_path)
    with pytest.raises(DataError, match="imagenet-photos: label 1000 at index 0 is out of range; expected 0 to 999"):
        load("imagenet-photos", SIZES)
