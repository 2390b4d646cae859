"""Image files of any size, decoded when they are indexed.

Knows nothing of classes, splits or where the files came from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.runtime.preprocessing import decode_and_fit
from toolchain.data.dataset import Images
from toolchain.errors import DataError, RequestError
from toolchain.records.tensors import Preprocessing


@dataclass(frozen=True)
class Photos:
    """uint8 [N, height, width, channels] as `preprocessing` defines; indexing decodes; DataError names a bad file."""

    paths: tuple[Path, ...]
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.paths), *self.preprocessing.shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any, /) -> Images:
        chosen = np.arange(len(self.paths))[index]
        if chosen.ndim == 0:
            return self._decode(self.paths[chosen])
        out = np.empty((len(chosen), *self.preprocessing.shape), np.uint8)
        for row, number in enumerate(chosen):
            out[row] = self._decode(self.paths[number])
        return out

    def _decode(self, path: Path) -> Images:
        try:
            return decode_and_fit(path.read_bytes(), self.preprocessing)
        except (RequestError, OSError) as error:
            raise DataError(f"{path}: {error}; replace or remove it") from error


def require_preprocessing(preprocessing: Preprocessing | None, name: str) -> Preprocessing:
    """`preprocessing` itself; DataError when it is None, since these images have no common size."""
    if preprocessing is None:
        raise DataError(f"{name}: its images differ in size; set what the model takes (a recipe's [input])")
    return preprocessing
