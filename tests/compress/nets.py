"""Tiny networks and data for the compression tests: a training of three epochs takes a fraction of a second."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from toolchain.compress.step import StepContext
from toolchain.data import DataSet, Split
from toolchain.models.cifar import Block
from toolchain.records.tensors import Preprocessing

SHAPE = (8, 8, 3)
CLASSES = ("dark", "light", "left", "right")
PREPROCESSING = Preprocessing(*SHAPE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


class Tiny(nn.Module):
    """Two convolutions with BatchNorm and a linear head: 3 -> 16 -> 32 -> classes."""

    def __init__(self, classes: int = len(CLASSES), dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.dropout(self.body(self.stem(x)).mean((2, 3))))
        return answer


def tiny(classes: int = len(CLASSES), dropout: float = 0.0) -> Tiny:
    """The same weights every time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return Tiny(classes, dropout).eval()


class Residual(nn.Module):
    """A stem, three residual blocks of 8 channels with a ReLU at their end, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 8, 1), Block(8, 8, 1))
        self.head = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return answer


def residual() -> Residual:
    """The same weights every time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        return Residual().eval()


def part(count: int, seed: int) -> Split:
    """Images that are dark, light, or bright on the left or the right half, with noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.integers(0, 80, (count, *SHAPE))
    images[labels == 1] += 120
    images[labels == 2, :, :4] += 120
    images[labels == 3, :, 4:] += 120
    return Split(images.astype(np.uint8), labels.astype(np.int64), np.arange(count))


def data(**parts: int) -> DataSet:
    """A data set with so many images in each part."""
    sizes = parts or {"train": 96, "validate": 40}
    return DataSet("made", CLASSES, "test", "0" * 64, {name: part(n, i) for i, (name, n) in enumerate(sizes.items())})


def context(folder: Path, **changes: Any) -> StepContext:
    return StepContext(**{"data": data(), "preprocessing": PREPROCESSING, "folder": folder, "seed": 5, **changes})
