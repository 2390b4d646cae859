"""MNIST's format: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k-, .gz or not.

A big-endian header, then bytes. Classes are named by their numbers; `[model] labels` gives them others. Without t10k-
(or test-) a fifth of the training images becomes the test split.
"""

import gzip
import zlib
from pathlib import Path
from struct import unpack_from

import numpy as np
from numpy.typing import NDArray

from toolchain.data.arrays import LabelledImages
from toolchain.data.dataset import DataSet, DataSource
from toolchain.data.own.array_parts import four_axes, numbered_classes, open_parts
from toolchain.data.own.entries import FolderReader
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SOURCES: dict[str, DataSource] = {}
GZIP = b"\x1f\x8b"
PREFIXES = {"train": ("train",), "test": ("t10k", "test"), "val": ("val",)}
EXPECTED = "train-images-idx3-ubyte and train-labels-idx1-ubyte, .gz or not"
UNSIGNED_BYTE = 8


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; [data] path must contain {EXPECTED}")
    files = [path for path in FolderReader().list_entries(folder) if path.is_file()]
    parts = {
        part: LabelledImages(four_axes(read_idx(images, 3, 4)), read_idx(labels, 1).astype(np.int64))
        for part in PREFIXES
        if (images := _find_file(files, part, "images")) and (labels := _find_file(files, part, "labels"))
    }
    if "train" not in parts and len(parts) != 1:
        raise DataError(f"{folder}: no MNIST files; expected {EXPECTED}")
    classes = numbered_classes({part: arrays.labels for part, arrays in parts.items()})
    return open_parts("idx", folder, classes, parts, preprocessing)


def read_idx(path: Path, *axes: int) -> NDArray[np.uint8]:
    """The bytes of an idx file, gzipped or not, with one of these numbers of axes; DataError when it is not one."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: not a complete gzip file ({error})") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTE)) or content[3] not in axes:
        expected = " or ".join(f"000008{count:02x}" for count in axes)
        raise DataError(f"{path.name}: starts with {content[:4].hex()}; expected an idx file of bytes, {expected}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path.name}: {len(content)} bytes; its header alone has {header}; copy it again")
    shape = unpack_from(f">{content[3]}I", content, 4)
    if len(content) - header != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path.name}: {len(content) - header} bytes of data; its header declares {list(shape)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _find_file(files: list[Path], part: str, kind: str) -> Path | None:
    """The file of a part's images or labels, unpacked where both forms lie there (train-images.idx3-ubyte too)."""
    fitting = [path for path in files if kind in path.name and any(prefix in path.name for prefix in PREFIXES[part])]
    plain = [path for path in fitting if path.suffix != ".gz"] or fitting
    if len(plain) > 1:
        raise DataError(f"{plain[0].parent}: {' and '.join(path.name for path in plain)} are both {part}; keep one")
    return plain[0] if plain else None
