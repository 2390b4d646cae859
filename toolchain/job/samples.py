"""Which images are used for what: calibration, parity, golden samples, the certificate.

None of those that decide anything, or that travel, comes from the test split.
"""

import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet, Split
from toolchain.data.dataset import Images
from toolchain.data.splits import shuffle_indices
from toolchain.errors import DataError

CERTIFY_IMAGES, CERTIFY_BYTES = 1000, 64 << 20
TRIAL_IMAGES, GOLDEN_IMAGES, VALIDATION_IMAGES = 64, 16, 1000
GOLDEN_PARTS = ("validate", "train")

Indices = tuple[int, ...]


def calibration_images(data: DataSet, samples: int, seed: int) -> tuple[Images, Indices]:
    """`samples` images of the train split, and their indices in the source; DataError when there are too few."""
    check_calibration(data, samples)
    part = data.split("train")
    return _take_images(part, shuffle_indices(len(part), seed)[:samples])


def check_calibration(data: DataSet, samples: int) -> None:
    """DataError when the train split has fewer images than calibration is to see."""
    found = len(data.split("train"))
    if found < samples:
        raise DataError(
            f"{data.name}: {samples} calibration samples were asked for, its train split has {found}; "
            "lower quantize.samples, or name another data set under [calibration]"
        )


def check_validation(data: DataSet) -> None:
    """DataError when there are no labelled images to measure a loss of accuracy on."""
    if not data.classes or "validate" not in data.splits or not len(data.split("validate")):
        raise DataError(
            f"{data.name}: max_drop is measured on the validate split, and it has none; remove max_drop from quantize"
        )


def validation_images(data: DataSet) -> tuple[Images, NDArray[np.int64]]:
    """Images and labels of the validate split, bounded in number: each layer's share of a loss is measured on them."""
    part = data.split("validate")
    count = min(len(part), VALIDATION_IMAGES)
    return _take_images(part, list(range(count)))[0], part.labels[:count]


def trial_images(data: DataSet) -> Images:
    """Images on which two ways of running the model are compared: the data's own, since on strange ones two classes
    are often level. Their labels are not looked at, so data that is nothing but a test split may give them too."""
    return _first(data, (*GOLDEN_PARTS, "test"), TRIAL_IMAGES)


def golden_images(data: DataSet) -> Images:
    """Images whose answers travel in the bundle; DataError when there are none beside the test split."""
    check_golden(data)
    return _first(data, GOLDEN_PARTS, GOLDEN_IMAGES)


def check_golden(data: DataSet) -> None:
    """DataError when all that the data has is its test split."""
    if not any(len(data.split(name)) for name in GOLDEN_PARTS):
        raise DataError(
            f"{data.name}: no images beside its test split, and that is kept for the figure; "
            'name another data set: [calibration] data = { name = "cifar10" }'
        )


def certificate_images(data: DataSet) -> tuple[Images, NDArray[np.int64], Indices]:
    """The held-out labelled sample that travels in the bundle, bounded in size; empty where the data has none."""
    part = data.split("certify")
    each = int(np.prod(part.images.shape[1:])) or 1
    count = min(len(part), CERTIFY_IMAGES, max(1, CERTIFY_BYTES // each))
    images, indices = _take_images(part, list(range(count)))
    return images, part.labels[:count], indices


def _first(data: DataSet, parts: tuple[str, ...], count: int) -> Images:
    part = next(data.split(name) for name in parts if len(data.split(name)))
    return _take_images(part, list(range(min(count, len(part)))))[0]


def _take_images(part: Split, positions: list[int]) -> tuple[Images, Indices]:
    picked = np.array(positions, np.int64)
    return np.ascontiguousarray(part.images[picked]), tuple(int(index) for index in part.indices[picked])
