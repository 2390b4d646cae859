"""Pictures of a part, as batches for a network: normalized, and for training cropped and mirrored at random.

Knows nothing of what a batch is for. All randomness comes from the generator that is handed in.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from toolchain.data import Part
from toolchain.models.preprocess import normalized
from toolchain.records.tensors import Preprocessing

RESIDENT_BYTES = 8 << 30  # arrays up to this size are moved to the GPU once, whole
EVALUATION_PIXELS = 1 << 19  # a batch for evaluation: 512 pictures of 32x32, 10 of 224x224


def augmented(images: Tensor, augment: tuple[str, ...], random: torch.Generator) -> Tensor:
    """Pictures shifted by up to an eighth of their size over reflected borders ("crop"), half mirrored ("flip").

    uint8 [N, H, W, C], same shape out (He et al. 2016, section 4.2). One gather: no padded copy is made.
    """
    count, height, width, _ = images.shape
    rows = _line(count, height, "crop" in augment, random)
    columns = _line(count, width, "crop" in augment, random)
    if "flip" in augment:
        mirrored = torch.rand((count, 1), generator=random) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    picture = torch.arange(count)[:, None, None]
    rows, columns, picture = (index.to(images.device) for index in (rows, columns, picture))
    return images[picture, rows[:, :, None], columns[:, None, :]]


def _line(count: int, size: int, shift: bool, random: torch.Generator) -> Tensor:
    """For each picture, which `size` pixels of an axis are seen: shifted at random, reflected at the borders."""
    line = torch.arange(size).expand(count, size)
    room = size // 8 if shift else 0
    if not room:
        return line
    line = line + torch.randint(-room, room + 1, (count, 1), generator=random)
    line = line.abs()
    return torch.where(line < size, line, 2 * (size - 1) - line)


def _window(images: Tensor, random: torch.Generator) -> Tensor:
    """The same three quarters of every picture of a batch."""
    height, width = (max(1, 3 * size // 4) for size in images.shape[1:3])
    top = int(torch.randint(images.shape[1] - height + 1, (1,), generator=random))
    left = int(torch.randint(images.shape[2] - width + 1, (1,), generator=random))
    return images[:, top : top + height, left : left + width]


class Batches:
    """The pictures of `part` on `device`, to be gone through as often as one likes; for training only `samples` of
    them, drawn by `seed`, when given."""

    def __init__(
        self,
        part: Part,
        preprocessing: Preprocessing,
        device: torch.device,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.part, self.preprocessing, self.device = part, preprocessing, device
        self.chosen = torch.arange(len(part))
        if samples is not None:
            random = torch.Generator().manual_seed(seed)
            self.chosen = torch.randperm(len(part), generator=random)[:samples].sort().values
        images = part.images
        fits = device.type == "cuda" and isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_BYTES
        self.resident = torch.tensor(images, device=device) if fits else None

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every picture once, in order, for evaluation: (float32 [N, C, H, W], int64 [N])."""
        for indices in torch.split(torch.arange(len(self.part)), self.evaluation_size):
            images, labels = self._taken(indices)
            yield self._ready(images), labels

    def shuffled(
        self, size: int, augment: tuple[str, ...], random: torch.Generator, small: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Whole batches of `size` in a random order; what does not fill the last one waits for another epoch.
        small: one random window a batch, of three quarters of the height and width."""
        order = torch.randperm(len(self.chosen), generator=random)[: self.count(size) * size]
        for indices in torch.split(self.chosen[order], size):
            images, labels = self._taken(indices)
            images = augmented(images, augment, random)
            yield self._ready(_window(images, random) if small else images), labels

    def count(self, size: int) -> int:
        """Batches an epoch; a part smaller than a batch is one."""
        return max(1, len(self.chosen) // size)

    @property
    def evaluation_size(self) -> int:
        return max(1, EVALUATION_PIXELS // (self.preprocessing.height * self.preprocessing.width))

    def _ready(self, images: Tensor) -> Tensor:
        return normalized(images, self.preprocessing).contiguous(memory_format=torch.channels_last)

    def _taken(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(self.part.labels[indices.numpy()]).to(self.device)
        if self.resident is not None:
            return self.resident[indices.to(self.device)], labels
        return torch.from_numpy(self.part.images[indices.numpy()]).to(self.device), labels
