"""A folder of images without labels, at any depth: what is calibrated on where nobody has labelled anything.

A tenth is kept apart for comparing answers, so that they are not those that ranges were found on.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from toolchain.data.dataset import DataSet, DataSource
from toolchain.data.own.entries import FolderReader
from toolchain.data.own.image_check import check_images
from toolchain.data.photos import Photos, require_preprocessing
from toolchain.data.splits import shuffle_indices, split_indices
from toolchain.data.unlabelled import unlabelled_splits
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SOURCES: dict[str, DataSource] = {}


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    preprocessing = require_preprocessing(preprocessing, "images")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; [calibration] images expects one that holds images, without labels")
    paths = tuple(_walk(folder, FolderReader()))
    if not paths:
        raise DataError(f"{folder}: holds no images; put some like those that will come there")
    digests = check_images(paths, folder, preprocessing)
    places = split_indices(shuffle_indices(len(paths), 0))
    chosen = sorted(places["train"] + places["certify"]), sorted(places["validate"])
    train, validate = (Photos(tuple(paths[place] for place in each), preprocessing) for each in chosen)
    named = "\n".join(f"{path.relative_to(folder)} {digest}" for path, digest in zip(paths, digests, strict=True))
    splits = unlabelled_splits(train, validate, *(np.array(each, np.int64) for each in chosen))
    return DataSet("images", (), str(folder), sha256(named.encode()).hexdigest(), splits)


def _walk(folder: Path, reader: FolderReader) -> Iterator[Path]:
    for entry in reader.list_entries(folder):
        if entry.is_dir():
            yield from _walk(entry, reader)
        else:
            yield entry
