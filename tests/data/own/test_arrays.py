"""NumPy archives and MNIST's files."""

import gzip
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.contract import check_data_set, check_module
from toolchain.data import DataSet, load
from toolchain.data.own import idx, npz
from toolchain.errors import DataError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

SIZE = Preprocessing(8, 8, channels=1)
RANDOM = np.random.default_rng(0)
IMAGES, LABELS = RANDOM.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40, dtype=np.uint8) % 3


def open_npz(folder: Path, shape: Preprocessing = SIZE, **arrays: Any) -> DataSet:
    np.savez(folder / "data.npz", **arrays)
    return load(DataSpec("npz", "data.npz"), shape, folder)


def check_refusal(folder: Path, message: str, **arrays: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_npz(folder, **arrays)
    assert "\n" not in str(caught.value)


def test_an_archive_with_keras_keys_satisfies_the_contract(tmp_path: Path) -> None:
    check_module("npz", npz)
    data = open_npz(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:9], y_test=LABELS[:9])
    check_data_set(data, load(DataSpec("npz", "data.npz"), SIZE, tmp_path))
    assert data.classes == ("0", "1", "2")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 32,
        "validate": 4,
        "certify": 4,
        "test": 9,
    }
    assert np.array_equal(data.split("test").images[3], IMAGES[3][:, :, None])


def test_an_archive_with_medmnist_keys_has_its_validation_split_and_names(tmp_path: Path) -> None:
    colour = np.stack([IMAGES] * 3, axis=3)
    parts = {f"{part}_images": colour for part in ("train", "val", "test")}
    labels = {f"{part}_labels": LABELS[:, None] for part in ("train", "val", "test")}
    data = open_npz(tmp_path, Preprocessing(6, 6), **parts, **labels, classes=["a", "b", "c"])
    assert data.classes == ("a", "b", "c") and not data.multilabel
    assert (len(data.split("validate")), data.split("validate").images.shape) == (40, (40, 6, 6, 3))
    first = open_npz(tmp_path, Preprocessing(8, 8), **{n: x.transpose(0, 3, 1, 2) for n, x in parts.items()}, **labels)
    assert np.array_equal(first.split("test").images[:], colour)


def test_an_archive_may_have_several_labels_an_image(tmp_path: Path) -> None:
    several = RANDOM.integers(0, 2, (40, 5))
    data = open_npz(tmp_path, train_images=IMAGES, train_labels=several)
    check_data_set(data, load(DataSpec("npz", "data.npz"), SIZE, tmp_path))
    assert data.multilabel and len(data.classes) == 5 and len(data.split("test")) == 8


def test_what_an_archive_lacks_is_named(tmp_path: Path) -> None:
    check_refusal(tmp_path, "has a; expected x_train and y_train", a=IMAGES)
    check_refusal(tmp_path, "images of float64; expected uint8", x_train=IMAGES / 255, y_train=LABELS)
    check_refusal(tmp_path, "labels of float64; expected integers", x_train=IMAGES, y_train=LABELS / 1)
    check_refusal(tmp_path, r"train: 40 images, but labels \[39\]", x_train=IMAGES, y_train=LABELS[1:])
    check_refusal(tmp_path, "hold other values than 0 and 1", x_train=IMAGES, y_train=np.full((40, 3), 7))
    check_refusal(tmp_path, "1 class; expected two or more", x_train=IMAGES, y_train=LABELS * 0)
    check_refusal(tmp_path, "label 2 at index 2 is out of range", x_train=IMAGES, y_train=LABELS, classes=["a", "b"])
    check_refusal(tmp_path, "it holds Python objects", x_train=IMAGES, y_train=np.array([{}, []], object))
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match=r"not an .npz file of plain arrays"):
        load(DataSpec("npz", "data.npz"), SIZE, tmp_path)
    with pytest.raises(DataError, match="no such file"):
        load(DataSpec("npz", "none.npz"), SIZE, tmp_path)


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    content = bytes((0, 0, 8, array.ndim)) + pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_mnist_files_satisfy_the_contract_packed_or_not(tmp_path: Path) -> None:
    check_module("idx", idx)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", LABELS)
    alone = load(DataSpec("idx", "."), SIZE, tmp_path)
    assert len(alone.split("test")) == 8
    write_idx(tmp_path / "t10k-images.idx3-ubyte", IMAGES[:9])
    write_idx(tmp_path / "t10k-labels.idx1-ubyte", LABELS[:9])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[:9])
    data = load(DataSpec("idx", "."), SIZE, tmp_path)
    check_data_set(data, load(DataSpec("idx", "."), SIZE, tmp_path))
    assert (len(data.split("test")), len(data.split("train")), data.classes) == (9, 32, ("0", "1", "2"))
    assert np.array_equal(data.split("test").images[3], IMAGES[3][:, :, None])


def test_what_mnist_files_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no MNIST files; expected train-images-idx3-ubyte"):
        load(DataSpec("idx", "."), SIZE, tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03 cut")
    with pytest.raises(DataError, match="its header alone has 16; copy it again"):
        load(DataSpec("idx", "."), SIZE, tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte", LABELS)
    with pytest.raises(DataError, match="starts with 00000801; expected an idx file of bytes, 00000803 or 00000804"):
        load(DataSpec("idx", "."), SIZE, tmp_path)
    write_idx(tmp_path / "train-images.idx3-ubyte", IMAGES)
    with pytest.raises(DataError, match="are both train; keep one"):
        load(DataSpec("idx", "."), SIZE, tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        load(DataSpec("idx", "none"), SIZE, tmp_path)
