"""Batches of a data split's images: normalized, and randomly augmented for training (augment.py).

All randomness comes from the generator that is passed in.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from toolchain.compress.augment import (
    AugmentationPlan,
    draw_plan,
    erase_boxes,
    mix_images,
    soft_labels,
    transform_images,
)
from toolchain.data import Split
from toolchain.models.preprocessing import normalize_images
from toolchain.records.tensors import Preprocessing

RESIDENT_BYTES = 8 << 30  # arrays up to this size are copied to the GPU once
EVALUATION_PIXELS = 1 << 19  # a batch for evaluation: 512 images of 32x32, 10 of 224x224


class Batches:
    """Batches of the images of `split` on `device`; can be iterated any number of times.

    samples: train on a random subset of this size, drawn from `seed`. classes: the class count, for soft labels.
    layout: the order in memory that the network takes (memory_layout.py).
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        device: torch.device,
        samples: int | None = None,
        seed: int = 0,
        classes: int = 0,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.layout = layout
        self.split, self.preprocessing, self.device, self.classes = split, preprocessing, device, classes
        self.chosen = torch.arange(len(split))
        if samples is not None:
            random = torch.Generator().manual_seed(seed)
            self.chosen = torch.randperm(len(split), generator=random)[:samples].sort().values
        images = split.images
        fits = device.type == "cuda" and isinstance(images, np.ndarray) and images.nbytes <= RESIDENT_BYTES
        self.resident = torch.tensor(images, device=device) if fits else None

    def ordered_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, for evaluation: (float32 [N, C, H, W], int64 [N])."""
        for indices in torch.split(torch.arange(len(self.split)), self.evaluation_size):
            images, labels = self._fetch(indices)
            yield self._normalize(images), labels

    def random_batches(
        self,
        size: int,
        augment: tuple[str, ...],
        random: torch.Generator,
        small: bool = False,
        slice_of: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Full batches of `size` in random order; an incomplete last batch is dropped. Labels are int64 [N], or with
        mixup and cutmix float32 [N, classes].

        small: one random window per batch, of three quarters of the height and width. slice_of: (i, n) yields the i-th
        of n slices of each batch; all slices together are the batch that (0, 1) yields.
        """
        order = torch.randperm(len(self.chosen), generator=random)[: self.batch_count(size) * size]
        height, width = self.split.images.shape[1:3]
        for indices in torch.split(self.chosen[order], size):
            plan = draw_plan(len(indices), (height, width), augment, random, small)
            own = torch.arange(len(indices)).tensor_split(slice_of[1])[slice_of[0]]
            yield self._augmented_batch(indices, plan, own)

    def _augmented_batch(self, indices: Tensor, plan: AugmentationPlan, own: Tensor) -> tuple[Tensor, Tensor]:
        if plan.partner is None:
            return self._transform(indices, plan, own)
        others = plan.partner[own]
        needed, at = torch.unique(torch.cat((own, others)), return_inverse=True)
        images, labels = self._transform(indices, plan, needed)
        mine, theirs = at.to(self.device).tensor_split([len(own)])
        batch = mix_images(images[mine], images[theirs], plan).contiguous(memory_format=self.layout)
        return batch, soft_labels(labels[mine], labels[theirs], plan.share, self.classes)

    def _transform(self, indices: Tensor, plan: AugmentationPlan, which: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self._fetch(indices[which])
        return erase_boxes(self._normalize(transform_images(images, plan, which)), plan, which), labels

    def batch_count(self, size: int) -> int:
        """Batches per epoch; a split smaller than a batch makes one."""
        return max(1, len(self.chosen) // size)

    @property
    def evaluation_size(self) -> int:
        return max(1, EVALUATION_PIXELS // (self.preprocessing.height * self.preprocessing.width))

    def _normalize(self, images: Tensor) -> Tensor:
        return normalize_images(images, self.preprocessing).contiguous(memory_format=self.layout)

    def _fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(self.split.labels[indices.numpy()]).to(self.device)
        if self.resident is not None:
            return self.resident[indices.to(self.device)], labels
        return torch.from_numpy(self.split.images[indices.numpy()]).to(self.device), labels
