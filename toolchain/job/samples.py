"""Which pictures are used for what: calibration, parity, golden samples, the certificate.

None of those that decide anything, or that travel, comes from the test part.
"""

import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet, Split
from toolchain.data.splits import shuffle_indices
from toolchain.errors import DataError

CERTIFY_PICTURES, CERTIFY_BYTES = 1000, 64 << 20
TRIAL_PICTURES, GOLDEN_PICTURES, VALIDATION_PICTURES = 64, 16, 1000
GOLDEN_PARTS = ("validate", "train")

Images = NDArray[np.uint8]
Indices = tuple[int, ...]


def calibration_pictures(data: DataSet, samples: int, seed: int) -> tuple[Images, Indices]:
    """`samples` pictures of the train part, and their indices in the source; DataError when there are too few."""
    check_calibration(data, samples)
    part = data.split("train")
    return _taken(part, shuffle_indices(len(part), seed)[:samples])


def check_calibration(data: DataSet, samples: int) -> None:
    """DataError when the train part has fewer pictures than calibration is to see."""
    found = len(data.split("train"))
    if found < samples:
        raise DataError(
            f"{data.name}: {samples} calibration samples were asked for, its train part has {found}; "
            "lower quantize.samples, or name another data set under [calibration]"
        )


def check_validation(data: DataSet) -> None:
    """DataError when there are no labelled pictures to measure a loss of accuracy on."""
    if "validate" not in data.splits or not len(data.split("validate")):
        raise DataError(
            f"{data.name}: max_drop is measured on the validate part, and it has none; remove max_drop from quantize"
        )


def validation_pictures(data: DataSet) -> tuple[Images, NDArray[np.int64]]:
    """Pictures and labels of the validate part, bounded in number: each layer's share of a loss is measured on them."""
    part = data.split("validate")
    count = min(len(part), VALIDATION_PICTURES)
    return _taken(part, list(range(count)))[0], part.labels[:count]


def trial_pictures(data: DataSet) -> Images:
    """Pictures on which two ways of running the model are compared: the data's own, since on strange ones two classes
    are often level. Their labels are not looked at, so data that is nothing but a test part may give them too."""
    return _first(data, (*GOLDEN_PARTS, "test"), TRIAL_PICTURES)


def golden_pictures(data: DataSet) -> Images:
    """Pictures whose answers travel in the bundle; DataError when there are none beside the test part."""
    check_golden(data)
    return _first(data, GOLDEN_PARTS, GOLDEN_PICTURES)


def check_golden(data: DataSet) -> None:
    """DataError when all that the data has is its test part."""
    if not any(len(data.split(name)) for name in GOLDEN_PARTS):
        raise DataError(
            f"{data.name}: no pictures beside its test part, and that is kept for the figure; "
            'name another data set: [calibration] data = { name = "cifar10" }'
        )


def certify_pictures(data: DataSet) -> tuple[Images, NDArray[np.int64], Indices]:
    """The held-out labelled sample that travels in the bundle, bounded in size; empty where the data has none."""
    part = data.split("certify")
    each = int(np.prod(part.images.shape[1:])) or 1
    count = min(len(part), CERTIFY_PICTURES, max(1, CERTIFY_BYTES // each))
    images, indices = _taken(part, list(range(count)))
    return images, part.labels[:count], indices


def _first(data: DataSet, parts: tuple[str, ...], count: int) -> Images:
    part = next(data.split(name) for name in parts if len(data.split(name)))
    return _taken(part, list(range(min(count, len(part)))))[0]


def _taken(part: Split, positions: list[int]) -> tuple[Images, Indices]:
    picked = np.array(positions, np.int64)
    return np.ascontiguousarray(part.images[picked]), tuple(int(index) for index in part.indices[picked])
