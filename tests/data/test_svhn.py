"""SVHN's MATLAB files, small, as scipy writes them; the real set was never run here."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.contract import check_data_set, check_module, unpack_as_fetched
from toolchain.data import load, svhn
from toolchain.errors import DataError


def write(path: Path, count: int, **changes: object) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, count), np.uint8)
    digits = (np.arange(count, dtype=np.uint8) % 10 + 1)[:, None]
    savemat(path, {"X": pixels, "y": digits, **changes}, do_compression=True)
    return pixels


def test_it_satisfies_the_contract_and_label_ten_is_zero(home: Path, tmp_path: Path) -> None:
    check_module("svhn", svhn)
    write(tmp_path / svhn.TRAIN.name, 40)
    pixels = write(tmp_path / svhn.TEST.name, 12)
    unpack_as_fetched(home, "svhn", svhn.unpack, tmp_path)
    data = load("svhn")
    check_data_set(data, load("svhn"))
    assert data.split("test").labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert np.array_equal(data.split("test").images[5], pixels[:, :, :, 5])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.array([[11], [1]])}, r"train.mat: y has labels from 1 to 11; expected 1 to 10 \(10 is 0\)"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8)}, r"train.mat: X is \[2, 32, 32, 3\]; expected \[32, 32, 3, N\]"),
        ({"y": np.array([[1]])}, r"train: 2 images, but labels \[1\]"),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    from toolchain.data.arrays import check_arrays

    write(tmp_path / "train.mat", 2, **changes)
    with pytest.raises(DataError, match=message):
        check_arrays(svhn.read_mat(tmp_path / "train.mat"), svhn.CLASSES, "train")


def test_a_file_that_is_not_matlab_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mat"
    write(whole, 10)
    savemat(tmp_path / "other.mat", {"Z": [1]})
    (tmp_path / "text.mat").write_text("hello" * 100)
    (tmp_path / "cut.mat").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "empty.mat").write_bytes(b"")
    for name in ("other", "text", "cut", "empty", "missing"):
        with pytest.raises(DataError, match=f"{name}.mat: not a MATLAB file with SVHN's X and y"):
            svhn.read_mat(tmp_path / f"{name}.mat")
