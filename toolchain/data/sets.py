"""What a data set is to the rest of the toolchain, and the table of those there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class ImageSource(Protocol):
    """uint8 [N, height, width, channels], indexable like an array; a folder decodes when indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Images: ...


@dataclass(frozen=True)
class Part:
    """Pictures with labels. `indices[i]` is where picture i stands in the part of the source that it came from."""

    images: ImageSource
    labels: Labels
    indices: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """parts: train, validate, certify (disjoint, cut from the source's training part) and test (the source's own).

    source: `official`, `mirror` or a path: where the bytes came from. sha256 names the bytes.
    """

    name: str
    classes: tuple[str, ...]
    source: str
    sha256: str
    parts: Mapping[str, Part]

    def part(self, name: str) -> Part:
        return self.parts[name]
