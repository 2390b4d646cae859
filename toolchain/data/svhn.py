"""SVHN (Netzer et al. 2011), cropped digits: 73,257 + 26,032 colour images of 32x32 pixels in ten classes.

Its MATLAB files hold X, uint8 [32, 32, 3, N], and y, where 10 stands for the digit 0. No registry carries them: the
official server is the only source.
"""

from pathlib import Path

import numpy as np

from toolchain.data.arrays import LabelledImages, open_arrays, write_arrays
from toolchain.data.dataset import DataSet, DataSource
from toolchain.data.downloads import Downloads, RemoteFile
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

CLASSES = tuple("0123456789")

TRAIN = RemoteFile("http://ufldl.stanford.edu/housenumbers/train_32x32.mat", "md5:e26dedcc434d2e4c54c9b2d4a06d8373")
TEST = RemoteFile("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", "md5:eb5a983be6a315427106f1b164d9cef3")


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    return open_arrays("svhn", CLASSES, folder, preprocessing)


def unpack(archives: Path, into: Path) -> None:
    write_arrays(into, CLASSES, read_mat(archives / TRAIN.name), read_mat(archives / TEST.name))


def read_mat(path: Path) -> LabelledImages:
    """Images and digits of one official file; DataError when it is not one."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, variable_names=("X", "y"))
        pixels, digits = content["X"], content["y"].ravel().astype(np.int64)
    except (MatReadError, ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise DataError(f"{path.name}: not a MATLAB file with SVHN's X and y ({error})") from error
    if pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise DataError(f"{path.name}: X is {list(pixels.shape)}; expected [32, 32, 3, N]")
    if np.any((digits < 1) | (digits > 10)):
        raise DataError(f"{path.name}: y has labels from {digits.min()} to {digits.max()}; expected 1 to 10 (10 is 0)")
    return LabelledImages(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), digits % 10)


SOURCES = {"official": DataSource(Downloads((TRAIN, TEST)), unpack)}
