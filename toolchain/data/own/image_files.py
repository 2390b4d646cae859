"""Labelled image files, checked before anything is built of them, as a data set.

Knows nothing of where their labels came from.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from toolchain.data.dataset import DataSet, Labels, Split
from toolchain.data.own.image_check import check_images
from toolchain.data.own.parts import describe_division, describe_small_classes, make_splits
from toolchain.data.photos import Photos
from toolchain.records.tensors import Preprocessing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledFiles:
    """paths: in the order of the source; names: what each is called in it; labels: as in Split."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: Labels
    preprocessing: Preprocessing

    def take(self, places: Sequence[int]) -> Split:
        chosen = np.array(places, np.int64)
        paths = tuple(self.paths[place] for place in places)
        return Split(Photos(paths, self.preprocessing), self.labels[chosen], chosen)


def open_files(name: str, source: Path, classes: tuple[str, ...], parts: Mapping[str, LabelledFiles]) -> DataSet:
    """The data set of `parts` (train, and test or val where there are), every file decoded once; DataError names all
    that cannot be."""
    splits = make_splits(parts)
    if line := describe_small_classes(classes, splits):
        logger.warning(f"{source.name}: {line}")
    files = {
        path: f"{name} {labels.tolist()}"
        for part in parts.values()
        for path, name, labels in zip(part.paths, part.names, part.labels, strict=True)
    }
    digests = check_images(tuple(files), source, next(iter(parts.values())).preprocessing)
    running = sha256(repr((classes, {part: len(files.paths) for part, files in parts.items()})).encode())
    for described, digest in sorted(zip(files.values(), digests, strict=True)):
        running.update(f"{described} {digest}\n".encode())
    division, from_training = describe_division(parts), set(parts) == {"train"}
    digest = running.hexdigest()
    return DataSet(name, classes, str(source), digest, splits, division=division, test_from_training=from_training)
