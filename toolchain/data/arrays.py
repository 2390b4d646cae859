"""Data sets whose images all have one size: decoded once, stored as one .npy file per split, then memory-mapped.

Knows nothing of where the pixels came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtime.preprocessing import fit_array, fits
from toolchain.data.dataset import DataSet, Images, ImageSource, Labels, Split
from toolchain.data.provenance import verify_provenance
from toolchain.data.splits import shuffle_indices, split_indices
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SPLITS = ("train", "validate", "certify", "test")


@dataclass(frozen=True)
class LabelledImages:
    """images: uint8 [N, height, width, channels]; labels: as in Split."""

    images: Images
    labels: Labels


@dataclass(frozen=True)
class ResizedImages:
    """An array of images that are resized and cropped for a preprocessing when they are indexed."""

    images: Images
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.images), *self.preprocessing.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any, /) -> Images:
        picked = self.images[index]
        if picked.ndim == 3:
            return fit_array(picked, self.preprocessing)
        out = np.empty((len(picked), *self.preprocessing.shape), np.uint8)
        for row, image in enumerate(picked):
            out[row] = fit_array(image, self.preprocessing)
        return out


def check_labels(labels: Labels, classes: Sequence[str], place: str) -> None:
    """DataError when a label is not the index of a class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(
            f"{place}: label {labels[wrong[0]]} at index {wrong[0]} is out of range; "
            f"expected 0 to {len(classes) - 1}, one index per class"
        )


def check_arrays(arrays: LabelledImages, classes: Sequence[str], place: str) -> None:
    """DataError when images and labels do not match in type, shape or number."""
    images, labels = arrays.images, arrays.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise DataError(f"{place}: expected uint8 [N, height, width, 1 or 3], got {images.dtype} {list(images.shape)}")
    if labels.shape not in ((len(images),), (len(images), len(classes))):
        raise DataError(f"{place}: {len(images)} images, but labels {list(labels.shape)}; expected one per image")
    if labels.ndim == 1:
        check_labels(labels, classes, place)
    elif np.any((labels != 0) & (labels != 1)):
        raise DataError(f"{place}: labels {list(labels.shape)} hold other values than 0 and 1, one per image and class")


def write_arrays(into: Path, classes: Sequence[str], train: LabelledImages, test: LabelledImages) -> None:
    """One set of files per split: the source's training images divided by splits.py, its test images unchanged."""
    check_arrays(train, classes, "train")
    check_arrays(test, classes, "test")
    for split, indices in split_indices(shuffle_indices(len(train.images), 0)).items():
        picked = np.array(indices, np.int64)
        _write_split(into, split, train.images[picked], train.labels[picked], picked)
    _write_split(into, "test", test.images, test.labels, np.arange(len(test.images), dtype=np.int64))


def open_arrays(name: str, classes: tuple[str, ...], folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    """The data set that `write_arrays` wrote, every byte verified; DataError."""
    provenance = verify_provenance(folder, name)
    splits = {split: _read_split(folder, split, preprocessing) for split in SPLITS}
    return DataSet(name, classes, provenance.source, provenance.sha256, splits)


def fit_to(images: Images, preprocessing: Preprocessing | None) -> ImageSource:
    """The images as the model takes them, resized when they are indexed; themselves where nothing is to be done."""
    if preprocessing is None or fits(images.shape[1:], preprocessing):
        return images
    return ResizedImages(images, preprocessing)


def _write_split(into: Path, split: str, images: Images, labels: Labels, indices: Labels) -> None:
    np.save(into / f"{split}_images.npy", images)
    np.save(into / f"{split}_labels.npy", labels.astype(np.int64))
    np.save(into / f"{split}_indices.npy", indices)


def _read_split(folder: Path, split: str, preprocessing: Preprocessing | None) -> Split:
    # Copy on write: torch.from_numpy requires writable memory, and the file must not change.
    path = folder / f"{split}_images.npy"
    stored: Images = np.asarray(np.load(path, mmap_mode="c" if path.stat().st_size else None, allow_pickle=False))
    images = fit_to(stored, preprocessing)
    labels, indices = (np.load(folder / f"{split}_{what}.npy", allow_pickle=False) for what in ("labels", "indices"))
    return Split(images, labels, indices)
