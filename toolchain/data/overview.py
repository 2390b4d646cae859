"""What labelled data looks like before anything is made of it: images a class, sizes, pixels, images in two splits.

Knows no recipe, and judges nothing: job/data_lines.py says what of it is odd.
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from toolchain.data.arrays import ResizedImages
from toolchain.data.dataset import DataSet, ImageSource, Labels, Split
from toolchain.data.photos import Photos

MEASURED = 256  # images whose pixels, and sizes of files, are looked at
PARTS = ("train", "validate", "certify", "test")


class DataOverview(msgspec.Struct, frozen=True):
    """images: in each split; a_class: images of each class, in all splits; smallest, largest: height and width as the
    files have them; mean, std: a channel, of 0..1, as the model gets the images; doubled: positions in the test split
    of images that are in another split too, byte for byte."""

    images: dict[str, int]
    a_class: tuple[int, ...]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    doubled: tuple[int, ...]


def look_at_data(data: DataSet) -> DataOverview:
    splits = [data.splits[name] for name in PARTS if name in data.splits]
    counts = np.sum([_count(split.labels, len(data.classes)) for split in splits], axis=0)
    shown = max(splits, key=len).images
    places = np.unique(np.linspace(0, len(shown) - 1, min(MEASURED, len(shown))).astype(np.int64))
    pixels = np.asarray(shown[places], np.float64) / 255
    sizes = list(_sizes(shown, places))
    return DataOverview(
        images={name: len(split) for name, split in data.splits.items()},
        a_class=tuple(int(count) for count in counts),
        smallest=min(sizes, key=lambda size: size[0] * size[1]),
        largest=max(sizes, key=lambda size: size[0] * size[1]),
        mean=tuple(float(value) for value in pixels.mean(axis=(0, 1, 2))),
        std=tuple(float(value) for value in pixels.std(axis=(0, 1, 2))),
        doubled=tuple(_find_doubled(data)),
    )


def overview_maker(data: DataSet) -> Callable[[Path, Path], DataOverview]:
    """look_at_data() for a stage: as it is defined here, the stage depends on what this module reaches alone."""

    def make(_: Path, __: Path) -> DataOverview:
        return look_at_data(data)

    return make


def _count(labels: Labels, classes: int) -> Labels:
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes).astype(np.int64)


def _sizes(images: ImageSource, places: Labels) -> Iterator[tuple[int, int]]:
    """Height and width of some images, before they are fitted to the model."""
    from PIL import Image

    if not isinstance(images, Photos):
        height, width = _unfitted_images(images).shape[1:3]
        yield height, width
        return
    for place in places:
        with Image.open(images.paths[place]) as image:
            yield image.height, image.width


def _unfitted_images(images: ImageSource) -> ImageSource:
    return images.images if isinstance(images, ResizedImages) else images


def _find_doubled(data: DataSet) -> Iterator[int]:
    others = {digest for name in PARTS[:3] if name in data.splits for digest in _digests(data.splits[name])}
    for place, digest in enumerate(_digests(data.splits["test"])):
        if digest in others:
            yield place


def _digests(split: Split) -> Iterator[bytes]:
    """Of each image as it is stored: a file's bytes, or an array's pixels."""
    images = _unfitted_images(split.images)
    for place in range(len(images)):
        content = (
            images.paths[place].read_bytes() if isinstance(images, Photos) else np.asarray(images[place]).tobytes()
        )
        yield sha256(content).digest()
