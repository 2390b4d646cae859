"""What a data set is to the rest of the toolchain, and what a module must define to add one.

Knows no data set by name (loading.py has the table) and fetches nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from toolchain.records.tensors import Preprocessing

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class ImageSource(Protocol):
    """uint8 [N, height, width, channels], indexable like an array; a folder of files decodes when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Images: ...


@dataclass(frozen=True)
class Split:
    """Labelled images. labels: class indices [N]; where an image may have several or none, [N, classes] of 0 and 1.
    `indices[i]` is the position of image i in the source's own split."""

    images: ImageSource
    labels: Labels
    indices: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """splits: train, validate, certify (disjoint, taken from the source's training images) and test (the source's own).

    source: `official`, `mirror` or a path: where the bytes came from. sha256 identifies the pixels and labels,
    whichever source they came from. renumbered: where model.labels has another order, its number of each class as the
    source counts them; empty: the source's own numbers (class_names.py). division: how the splits came about, and why;
    test_from_training: whether the test images were taken from those that the source offers for training.
    """

    name: str
    classes: tuple[str, ...]
    source: str
    sha256: str
    splits: Mapping[str, Split]
    renumbered: tuple[int, ...] = ()
    division: str = "the test split is the source's own"
    test_from_training: bool = False

    def split(self, name: str) -> Split:
        return self.splits[name]

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none."""
        return any(split.labels.ndim == 2 for split in self.splits.values())


def multi_hot(labels: Labels, classes: int) -> Labels:
    """Class indices [N] as [N, classes] of 0 and 1; labels that are so already unchanged."""
    return labels if labels.ndim == 2 else np.eye(classes, dtype=np.int64)[labels]


class Archives(Protocol):
    """Archives that can be obtained from a server or a registry: see downloads.py and packages.py."""

    def obtain(self, folder: Path) -> dict[str, str]:
        """Put the archives into `folder`, each verified, and return their digests by name. DataError: why it failed."""
        ...


@dataclass(frozen=True)
class DataSource:
    """One place to fetch a data set from. unpack(archives, into) writes what `open_dataset` reads."""

    archives: Archives
    unpack: Callable[[Path, Path], None]


class DataSetModule(Protocol):
    """A module of this folder defines one data set: a line in loading.py names it, tests/data/contract.py tests it.

    SOURCES: `official`, `mirror` or both, tried in this order; empty for the user's own files at DataSpec.path.
    """

    SOURCES: Mapping[str, DataSource]

    def open_dataset(self, folder: Path, preprocessing: Preprocessing | None) -> DataSet:
        """The data set in `folder`; DataError names a file that is missing, corrupt or unsuitable."""
        ...
