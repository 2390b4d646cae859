"""Pictures in files of any size, decoded when they are indexed.

Knows nothing of classes, parts or where the files came from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtime.preprocessing import picture_array
from toolchain.data.dataset import Images
from toolchain.errors import DataError, RequestError
from toolchain.records.tensors import Preprocessing


@dataclass(frozen=True)
class Photos:
    """uint8 [N, height, width, channels] as `preprocessing` says; indexing decodes, and names a corrupt file."""

    paths: tuple[Path, ...]
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.paths), *self.preprocessing.shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any, /) -> Images:
        places = np.arange(len(self.paths))[index]
        if places.ndim == 0:
            return self._decode(self.paths[places])
        out = np.empty((len(places), *self.preprocessing.shape), np.uint8)
        for row, place in enumerate(places):
            out[row] = self._decode(self.paths[place])
        return out

    def _decode(self, path: Path) -> Images:
        try:
            return picture_array(path.read_bytes(), self.preprocessing)
        except (RequestError, OSError) as error:
            raise DataError(f"{path}: {error}; replace or remove it") from error


def require_preprocessing(preprocessing: Preprocessing | None, name: str) -> Preprocessing:
    """DataError where photos are asked for without saying of which size."""
    if preprocessing is None:
        raise DataError(f"{name}: its pictures differ in size; say what the network takes (a recipe's [input])")
    return preprocessing
