"""Arrays of images in memory as a data set. Knows nothing of the files that they were read from."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolchain.data.arrays import LabelledImages, check_arrays, fit_to
from toolchain.data.dataset import DataSet, Images, Labels, Split
from toolchain.data.own.parts import describe_division, describe_small_classes, make_splits
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArrayPart:
    arrays: LabelledImages
    preprocessing: Preprocessing | None

    @property
    def labels(self) -> Labels:
        return self.arrays.labels

    def take(self, places: Sequence[int]) -> Split:
        chosen = np.array(places, np.int64)
        return Split(fit_to(self.arrays.images[chosen], self.preprocessing), self.labels[chosen], chosen)


def open_parts(
    name: str,
    source: Path,
    classes: tuple[str, ...],
    parts: Mapping[str, LabelledImages],
    preprocessing: Preprocessing | None,
) -> DataSet:
    """The data set of `parts` (train, and test or val where there are); DataError where one does not fit."""
    if len(classes) < 2:
        raise DataError(f"{source}: {len(classes)} class; expected two or more")
    running = sha256(repr(classes).encode())
    for part, arrays in sorted(parts.items()):
        check_arrays(arrays, classes, f"{source}: {part}")
        running.update(f"{part} {arrays.images.shape} {arrays.labels.shape}".encode())
        running.update(np.ascontiguousarray(arrays.images).data)
        running.update(np.ascontiguousarray(arrays.labels).data)
    splits = make_splits({part: ArrayPart(arrays, preprocessing) for part, arrays in parts.items()})
    if line := describe_small_classes(classes, splits):
        logger.warning(f"{source.name}: {line}")
    division, from_training = describe_division(parts), set(parts) == {"train"}
    digest = running.hexdigest()
    return DataSet(name, classes, str(source), digest, splits, division=division, test_from_training=from_training)


def four_axes(images: NDArray[np.uint8]) -> Images:
    """[N, height, width], [N, height, width, channels] or [N, channels, height, width], channels last."""
    if images.ndim == 3:
        return images[:, :, :, None]
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        return images.transpose(0, 2, 3, 1)
    return images


def numbered_classes(parts: Mapping[str, Labels]) -> tuple[str, ...]:
    """The numbers as names, for labels that come without."""
    count = max(labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=-1)) + 1 for labels in parts.values())
    return tuple(str(number) for number in range(count))
