"""The labelled images of --data: their classes, sizes and colours, and some of them to try a model on.

Their test split is never looked at: what is tried here decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet, load
from toolchain.data.dataset import Images, Labels
from toolchain.data.originals import original_image, refit
from toolchain.data.splits import shuffle_indices
from toolchain.errors import DataError, UsageError
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

ANY_SIZE = Preprocessing(32, 32)  # until it is known: nothing is indexed before
LOOKED_AT = 200  # images whose sizes and colours are read
TRIED = 400
IDX_FILE = "train-images-idx3-ubyte"


@dataclass(frozen=True)
class InitImages:
    """spec: as typed; sizes: height and width of some images; channels: 1 where all are grey; places: of those that a
    model is tried on, in the train split, the same number of each class as far as there are."""

    spec: DataSpec
    data: DataSet
    sizes: tuple[tuple[int, int], ...]
    channels: int
    places: NDArray[np.int64]
    _fitted: dict[str, Images] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        return self.data.split("train").labels[self.places]

    @property
    def size(self) -> tuple[int, int] | None:
        """What all of them have; None where they differ."""
        return self.sizes[0] if len(set(self.sizes)) == 1 else None

    @property
    def short_side(self) -> int:
        """The median of the shorter sides."""
        return int(np.median([min(size) for size in self.sizes]))

    def fit_pixels(self, preprocessing: Preprocessing, count: int) -> Images:
        """The first `count` of `places`, uint8 [N, height, width, channels]."""
        plain = msgspec.structs.replace(preprocessing, mean=(0.0,), std=(1.0,), order="rgb", scale=255)
        key = f"{plain} {count}"
        if key not in self._fitted:
            images = refit(self.data, plain).split("train").images
            self._fitted[key] = np.ascontiguousarray(images[self.places[:count]])
        return self._fitted[key]


def read_images(path: Path) -> InitImages:
    """DataError or UsageError for what is no labelled data."""
    spec = DataSpec(_kind(path), str(path))
    data = load(spec, ANY_SIZE, Path())
    if data.multilabel:
        raise UsageError(
            f"--data={path}: images with several labels; write the recipe by hand: docs/guides/own-model.md"
        )
    train = data.split("train")
    if not len(train) or len(data.classes) < 2:
        raise DataError(f"{path}: {len(data.classes)} classes, {len(train)} training images; expected two and more")
    look = np.linspace(0, len(train) - 1, min(LOOKED_AT, len(train))).astype(int).tolist()
    originals = [original_image(train.images, place) for place in look]
    grey = all(image.mode == "L" for image in originals)
    sizes = tuple((image.height, image.width) for image in originals)
    return InitImages(spec, data, sizes, 1 if grey else 3, _balanced_places(train.labels, len(data.classes)))


def _kind(path: Path) -> str:
    if path.suffix.lower() in (".csv", ".npz"):
        return path.suffix.lower()[1:]
    if not path.is_dir():
        raise UsageError(f"--data={path}: no such folder; expected one with a folder per class, a .csv or an .npz")
    return "idx" if any(path.glob(f"{IDX_FILE}*")) else "folder"


def _balanced_places(labels: Labels, classes: int) -> NDArray[np.int64]:
    """One of each class in turn, shuffled: any first part of them has all classes about equally often."""
    order = np.array(shuffle_indices(len(labels), 0), np.int64)
    turns = np.zeros(len(labels), np.int64)
    for label in range(classes):
        mine = np.flatnonzero(labels[order] == label)
        turns[mine] = np.arange(len(mine))
    chosen: NDArray[np.int64] = order[np.argsort(turns, kind="stable")][:TRIED]
    return chosen


def mean_and_std(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel, shares of 255 to three digits, as training scripts write the statistics of their own data."""
    shares = images.reshape(-1, images.shape[-1]) / 255
    means: Sequence[float] = shares.mean(0).round(3).tolist()
    stds: Sequence[float] = shares.std(0).round(3).clip(0.001).tolist()
    return tuple(means), tuple(stds)
