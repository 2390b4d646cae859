"""A split's images as they were before they were fitted to a model: for a transform that does the fitting itself.

Knows nothing of transforms.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from deploy.runtime.preprocessing import decode_whole, fits
from toolchain.data.arrays import ResizedImages
from toolchain.data.dataset import DataSet, ImageSource, Split
from toolchain.data.photos import Photos
from toolchain.errors import DataError, RequestError
from toolchain.records.tensors import Preprocessing


def original_image(images: ImageSource, index: int) -> Image.Image:
    """Upright, in its own size, in mode RGB or L; DataError names a bad file."""
    if isinstance(images, Photos):
        path = images.paths[index]
        try:
            return decode_whole(path.read_bytes())
        except (RequestError, OSError) as error:
            raise DataError(f"{path}: {error}; replace or remove it") from error
    pixels = np.asarray(images.images[index] if isinstance(images, ResizedImages) else images[index])
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def some_images(data: DataSet, parts: tuple[str, ...], count: int, max_pixels: int) -> list[Image.Image]:
    """Up to `count` images, spread over the first of the splits that has enough of them, or else the largest; fewer
    where they have more than max_pixels together. DataError where there are none."""
    splits = [data.split(name) for name in parts if name in data.splits and len(data.split(name))]
    if not splits:
        raise DataError(f"{data.name}: has no images; input.transform is compared on real ones")
    part = next((split for split in splits if len(split) >= count), max(splits, key=len))
    return list(
        _load_within(part, np.linspace(0, len(part) - 1, min(count, len(part))).astype(int).tolist(), max_pixels)
    )


def _load_within(part: Split, places: list[int], max_pixels: int) -> Iterator[Image.Image]:
    pixels = 0
    for place in places:
        image = original_image(part.images, place)
        pixels += image.width * image.height
        if pixels > max_pixels and pixels > image.width * image.height:
            return
        yield image


def refit(data: DataSet, preprocessing: Preprocessing) -> DataSet:
    """The same images, fitted by another preprocessing."""
    splits = {
        name: replace(split, images=_refit_images(split.images, preprocessing)) for name, split in data.splits.items()
    }
    return replace(data, splits=splits)


def _refit_images(images: ImageSource, preprocessing: Preprocessing) -> ImageSource:
    if isinstance(images, Photos):
        return replace(images, preprocessing=preprocessing)
    stored = images.images if isinstance(images, ResizedImages) else images
    return stored if fits(stored.shape[1:], preprocessing) else ResizedImages(np.asarray(stored), preprocessing)
