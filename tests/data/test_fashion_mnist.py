"""Fashion-MNIST's idx files, small."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.data.contract import check_data_set, check_module, unpack_as_fetched
from toolchain.data import fashion_mnist, load
from toolchain.data.own.idx import read_idx
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), np.uint8)
    for stem in ("train", "t10k"):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(30, dtype=np.uint8) % 10)))
    return pixels


def test_it_satisfies_the_contract(home: Path, tmp_path: Path) -> None:
    check_module("fashion-mnist", fashion_mnist)
    pixels = write(tmp_path)
    unpack_as_fetched(home, "fashion-mnist", fashion_mnist.unpack, tmp_path)
    for preprocessing in (None, Preprocessing(32, 32, 3)):
        data = load("fashion-mnist", preprocessing)
        check_data_set(data, load("fashion-mnist", preprocessing))
    assert np.array_equal(load("fashion-mnist").split("test").images[7][:, :, 0], pixels[7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip", "x.gz: starts with 6e6f2067; expected an idx file"),
        (gzip.compress(bytes(10_000))[:-9], "x.gz: not a complete gzip file"),
        (gzip.compress(b"\x00\x00\x08\x03"), "x.gz: starts with 00000803; expected an idx file of bytes, 00000801"),
        (gzip.compress(idx(np.zeros(9, np.uint8))[:-1]), r"x.gz: 8 bytes of data; its header declares \[9\]"),
    ],
    ids=["not gzip", "cut gzip", "another kind", "too short"],  # gzip writes the time into its header
)
def test_a_file_that_is_not_idx_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x.gz", 1)


def test_a_label_without_a_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(30, 10, np.uint8))))
    with pytest.raises(DataError, match="test: label 10 at index 0 is out of range; expected 0 to 9"):
        fashion_mnist.unpack(tmp_path, tmp_path)
