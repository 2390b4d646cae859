"""Data sets whose pictures are all of one size: decoded once, kept as .npy a part, mapped into memory afterwards.

Knows nothing of where the pixels came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtime.preprocessing import fits, fitted_array
from toolchain.data.dataset import DataSet, Images, ImageSource, Labels, Split
from toolchain.data.provenance import verify_provenance
from toolchain.data.splits import shuffle_indices, split_indices
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SPLITS = ("train", "validate", "certify", "test")


@dataclass(frozen=True)
class LabelledImages:
    """images: uint8 [N, height, width, channels]; labels: N class indices."""

    images: Images
    labels: Labels


@dataclass(frozen=True)
class ResizedImages:
    """An array of pictures that are fitted to a preprocessing when they are indexed."""

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
            return fitted_array(picked, self.preprocessing)
        out = np.empty((len(picked), *self.preprocessing.shape), np.uint8)
        for place, picture in enumerate(picked):
            out[place] = fitted_array(picture, self.preprocessing)
        return out


def check_labels(labels: Labels, classes: Sequence[str], place: str) -> None:
    """DataError when a label names no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(
            f"{place}: label {labels[wrong[0]]} at index {wrong[0]} is out of range; "
            f"expected 0 to {len(classes) - 1}, a class each"
        )


def check_arrays(arrays: LabelledImages, classes: Sequence[str], place: str) -> None:
    """DataError when pictures and labels do not belong together."""
    images, labels = arrays.images, arrays.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise DataError(f"{place}: expected uint8 [N, height, width, 1 or 3], got {images.dtype} {list(images.shape)}")
    if labels.shape != (len(images),):
        raise DataError(f"{place}: {len(images)} pictures, but labels {list(labels.shape)}; expected as many")
    check_labels(labels, classes, place)


def write_arrays(into: Path, classes: Sequence[str], train: LabelledImages, test: LabelledImages) -> None:
    """A file a part: the source's training part cut as splits.py says, its test part as it is."""
    check_arrays(train, classes, "train")
    check_arrays(test, classes, "test")
    for part, indices in split_indices(shuffle_indices(len(train.images), 0)).items():
        picked = np.array(indices, np.int64)
        _write_split(into, part, train.images[picked], train.labels[picked], picked)
    _write_split(into, "test", test.images, test.labels, np.arange(len(test.images), dtype=np.int64))


def open_arrays(name: str, classes: tuple[str, ...], folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    """The data set that `write_arrays` wrote, its bytes checked."""
    kept = verify_provenance(folder, name)
    parts = {part: _read_split(folder, part, preprocessing) for part in SPLITS}
    return DataSet(name, classes, kept.source, kept.sha256, parts)


def _write_split(into: Path, part: str, images: Images, labels: Labels, indices: Labels) -> None:
    np.save(into / f"{part}_images.npy", images)
    np.save(into / f"{part}_labels.npy", labels.astype(np.int64))
    np.save(into / f"{part}_indices.npy", indices)


def _read_split(folder: Path, part: str, preprocessing: Preprocessing | None) -> Split:
    # Copy on write: torch.from_numpy wants memory that it may write to, and the file must stay as it is.
    path = folder / f"{part}_images.npy"
    stored: Images = np.asarray(np.load(path, mmap_mode="c" if path.stat().st_size else None, allow_pickle=False))
    plain = preprocessing is None or fits(stored.shape[1:], preprocessing)
    images: ImageSource = stored if plain or preprocessing is None else ResizedImages(stored, preprocessing)
    labels, indices = (np.load(folder / f"{part}_{what}.npy", allow_pickle=False) for what in ("labels", "indices"))
    return Split(images, labels, indices)
