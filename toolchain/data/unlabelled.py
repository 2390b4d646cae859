"""Data without labels: what numerics can be compared on, though nobody knows which answers are right.

A data set without labels has no classes, and no certificate and test splits.
"""

from hashlib import sha256

import numpy as np
from PIL import Image

from toolchain.data.dataset import DataSet, Images, ImageSource, Labels, Split
from toolchain.records.tensors import Preprocessing

DRAWN, DRAWN_COUNT = "drawn images", 64
GRAINS = (3, 7, 24)  # cells along an image's side: areas, objects, texture
NOISE = 12.0  # standard deviation of a byte


def strip_labels(data: DataSet) -> DataSet:
    """The images of `data`, for calibration and comparison alone."""
    train, validate = data.split("train"), data.split("validate")
    splits = unlabelled_splits(train.images, validate.images, train.indices, validate.indices)
    return DataSet(data.name, (), data.source, data.sha256, splits)


def draw_images(shape: Preprocessing) -> DataSet:
    """For a recipe that names no images at all: 64 of smooth colour, edges and noise, always the same for one size.
    They look like nothing, so no ranges may be calibrated on them: the train split is empty."""
    random = np.random.default_rng(0)
    images = np.stack([_draw(random, shape) for _ in range(DRAWN_COUNT)])
    digest = sha256(images.tobytes()).hexdigest()
    splits = unlabelled_splits(images[:0], images, np.arange(0), np.arange(len(images)))
    return DataSet(DRAWN, (), "", digest, splits)


def unlabelled_splits(
    train: ImageSource, validate: ImageSource, train_indices: Labels, validate_indices: Labels
) -> dict[str, Split]:
    """train is for calibration, validate for comparing answers; there is nothing to certify or test on."""
    nothing = _unlabelled(validate[:0], validate_indices[:0])
    return {
        "train": _unlabelled(train, train_indices),
        "validate": _unlabelled(validate, validate_indices),
        "certify": nothing,
        "test": nothing,
    }


def _draw(random: np.random.Generator, shape: Preprocessing) -> Images:
    """Coarse to fine random cells, each grain blurred to the image's size, some with hard edges."""
    height, width, channels = shape.shape
    image = np.full((height, width, channels), random.uniform(60, 200, channels))
    for grain in GRAINS:
        cells = random.integers(0, 256, (grain, grain, channels), np.uint8)
        how = Image.Resampling.NEAREST if random.random() < 0.3 else Image.Resampling.BICUBIC
        layers = [Image.fromarray(cells[..., at]).resize((width, height), how) for at in range(channels)]
        image += random.uniform(0.2, 1.0) * (np.stack([np.asarray(layer, float) for layer in layers], -1) - 128)
    noisy: Images = (image + random.normal(0, NOISE, image.shape)).clip(0, 255).astype(np.uint8)
    return noisy


def _unlabelled(images: ImageSource, indices: Labels) -> Split:
    return Split(images, np.full(len(images), -1, np.int64), indices)
