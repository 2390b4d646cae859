"""A NumPy archive, as Keras's mnist.npz and MedMNIST's files are.

    x_train, y_train; x_test, y_test; x_val, y_val             (or train_images, train_labels and so on)
    classes (or class_names)                                   the classes' names; without them, their numbers

images: uint8 [N, height, width] or [N, height, width, 1 or 3]. labels: class indices [N] or [N, 1], or, where an image
may have several, [N, classes] of 0 and 1. Without x_test and x_val a fifth of the images becomes the test split.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.data.arrays import LabelledImages
from toolchain.data.dataset import DataSet, DataSource, Labels
from toolchain.data.own.array_parts import four_axes, numbered_classes, open_parts
from toolchain.data.own.parts import PART_NAMES
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SOURCES: dict[str, DataSource] = {}
IMAGE_KEYS, LABEL_KEYS = ("x_{}", "{}_images", "{}_x"), ("y_{}", "{}_labels", "{}_y")
CLASS_KEYS = ("classes", "class_names")
EXPECTED = "x_train and y_train, x_test and y_test (uint8 images, integer labels)"
Arrays = Mapping[str, NDArray[np.generic]]


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    """`folder` is the path of the file."""
    arrays = _read_archive(folder)
    parts = {
        part: LabelledImages(_read_images(images, folder), _read_labels(labels, folder))
        for part, names in PART_NAMES.items()
        if (images := _find_array(arrays, IMAGE_KEYS, names)) is not None
        if (labels := _find_array(arrays, LABEL_KEYS, names)) is not None
    }
    if "train" not in parts and len(parts) != 1:
        raise DataError(f"{folder}: has {', '.join(arrays) or 'no arrays'}; expected {EXPECTED}")
    named = next((arrays[key] for key in CLASS_KEYS if key in arrays), None)
    numbered = numbered_classes({part: arrays.labels for part, arrays in parts.items()})
    classes = numbered if named is None else tuple(str(name) for name in named.ravel())
    return open_parts("npz", folder, classes, parts, preprocessing)


def _read_archive(path: Path) -> Arrays:
    """Every array by its name in lower case; nothing in the file is unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; [data] path must name an .npz file with {EXPECTED}")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single array; expected an .npz file with {EXPECTED}")
            return {name.lower(): archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds Python objects" if "allow_pickle" in str(error) else str(error)
        raise DataError(f"{path}: not an .npz file of plain arrays ({reason}); expected {EXPECTED}") from error


def _find_array(arrays: Arrays, keys: tuple[str, ...], parts: tuple[str, ...]) -> NDArray[np.generic] | None:
    return next((arrays[name] for key in keys for part in parts if (name := key.format(part)) in arrays), None)


def _read_images(images: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: images of {images.dtype}; expected uint8, from 0 to 255: save the bytes, [input] normalizes them"
        )
    return four_axes(images.astype(np.uint8, copy=False))


def _read_labels(labels: NDArray[np.generic], path: Path) -> Labels:
    if not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise DataError(f"{path}: labels of {labels.dtype}; expected integers, the index of each image's class")
    return (labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels).astype(np.int64)
