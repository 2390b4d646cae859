"""Random augmentation of training images, drawn for a whole batch and applied to any of its images.

Drawing for the whole batch lets several processes, each with a slice of it, see the same images as a single process
would. All randomness comes from the generator that is passed in.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Augmentation = Literal["flip", "crop", "color", "erase", "mixup", "cutmix"]
MIXUP_ALPHA = 0.2  # Zhang et al. 2018 use 0.1 to 0.4 on ImageNet
CUTMIX_ALPHA = 1.0  # Yun et al. 2019
COLOR_STRENGTH = 0.4  # brightness and contrast are multiplied by 0.6 to 1.4
ERASE_PROBABILITY = 0.5  # fraction of the images (this and the next two: Zhong et al. 2020)
ERASE_AREA, ERASE_ASPECT = (0.02, 0.4), 0.3  # fractions of the image; aspect ratio 0.3 to 1 / 0.3


@dataclass(frozen=True)
class AugmentationPlan:
    """The augmentation of each of N images. rows, columns: source pixel indices, int64 [N, H] and [N, W], or None for
    all pixels in place; factors: brightness and contrast [N, 2]; boxes: erased rectangles [N, 4] as top, left, bottom,
    right.

    partner: the index of the image that each is mixed with [N]; share: the weight of the image itself; patch: the
    rectangle taken from the partner (cutmix), or None to blend everywhere (mixup).
    """

    rows: Tensor | None
    columns: Tensor | None
    factors: Tensor | None
    boxes: Tensor | None
    partner: Tensor | None
    share: float = 1.0
    patch: tuple[int, int, int, int] | None = None


def draw_plan(
    count: int, size: tuple[int, int], augment: tuple[str, ...], random: torch.Generator, small: bool = False
) -> AugmentationPlan:
    """Draw a plan for `count` images of `size` (height, width).

    "crop": shift by up to an eighth, reflecting at the borders; "flip": mirror half of the images (He et al. 2016,
    section 4.2). small: one window of three quarters of the height and width for the whole batch.
    """
    rows: Tensor | None = None
    columns: Tensor | None = None
    if small or "crop" in augment or "flip" in augment:
        rows = _axis_indices(count, size[0], "crop" in augment, random)
        columns = _axis_indices(count, size[1], "crop" in augment, random)
        if "flip" in augment:
            columns = torch.where(torch.rand((count, 1), generator=random) < 0.5, columns.flip(1), columns)
        if small:
            rows, columns = _random_window(rows, random), _random_window(columns, random)
        size = rows.shape[1], columns.shape[1]
    factors = (
        1 - COLOR_STRENGTH + 2 * COLOR_STRENGTH * torch.rand((count, 2), generator=random)
        if "color" in augment
        else None
    )
    boxes = _draw_boxes(count, size, random) if "erase" in augment else None
    partner, share, patch = _draw_mixing(count, size, augment, random)
    return AugmentationPlan(rows, columns, factors, boxes, partner, share, patch)


def _axis_indices(count: int, size: int, shift: bool, random: torch.Generator) -> Tensor:
    """For each image, the source indices along an axis of `size` pixels: randomly shifted, reflected at the borders."""
    line = torch.arange(size).expand(count, size)
    room = size // 8 if shift else 0
    if not room:
        return line
    line = line + torch.randint(-room, room + 1, (count, 1), generator=random)
    line = line.abs()
    return torch.where(line < size, line, 2 * (size - 1) - line)


def _random_window(line: Tensor, random: torch.Generator) -> Tensor:
    seen = max(1, 3 * line.shape[1] // 4)
    first = int(torch.randint(line.shape[1] - seen + 1, (1,), generator=random))
    return line[:, first : first + seen]


def _draw_boxes(count: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
    """One rectangle per image, clipped at the border; empty for images that are not erased."""
    low, high = ERASE_AREA
    hit, area, aspect, top, left = torch.rand((5, count), generator=random)
    area = (low + (high - low) * area) * size[0] * size[1]
    aspect = torch.exp((2 * aspect - 1) * -np.log(ERASE_ASPECT))
    height = (area * aspect).sqrt().clamp(max=size[0]).round() * (hit < ERASE_PROBABILITY)
    width = (area / aspect).sqrt().clamp(max=size[1]).round()
    top, left = (top * (size[0] - height + 1)).floor(), (left * (size[1] - width + 1)).floor()
    return torch.stack((top, left, top + height, left + width), 1)


def _draw_mixing(
    count: int, size: tuple[int, int], augment: tuple[str, ...], random: torch.Generator
) -> tuple[Tensor | None, float, tuple[int, int, int, int] | None]:
    """Partners, the weight that each image keeps, and the patch; mixup or cutmix at random where both are named."""
    kinds = [kind for kind in ("mixup", "cutmix") if kind in augment]
    if not kinds:
        return None, 1.0, None
    numbers = np.random.default_rng(int(torch.randint(2**31, (1,), generator=random)))
    partner = torch.randperm(count, generator=random)
    if kinds[int(numbers.integers(len(kinds)))] == "mixup":
        return partner, float(numbers.beta(MIXUP_ALPHA, MIXUP_ALPHA)), None
    side = np.sqrt(1 - numbers.beta(CUTMIX_ALPHA, CUTMIX_ALPHA))
    middle = [int(numbers.integers(pixels)) for pixels in size]
    first = [max(0, at - int(side * pixels / 2)) for at, pixels in zip(middle, size, strict=True)]
    last = [min(pixels, at + int(side * pixels / 2)) for at, pixels in zip(middle, size, strict=True)]
    share = 1 - (last[0] - first[0]) * (last[1] - first[1]) / (size[0] * size[1])
    return partner, share, (first[0], first[1], last[0], last[1])


def transform_images(images: Tensor, plan: AugmentationPlan, which: Tensor) -> Tensor:
    """Apply shifts, flips and color changes: uint8 [n, H, W, C], the images with indices `which` in the batch."""
    if plan.rows is not None and plan.columns is not None:
        rows, columns = plan.rows[which].to(images.device), plan.columns[which].to(images.device)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        images = images[image, rows[:, :, None], columns[:, None, :]]  # one gather: no padded copy
    if plan.factors is not None:
        brightness, contrast = plan.factors[which].to(images.device)[:, :, None, None, None].unbind(1)
        light = images.float() * brightness
        grey = light.mean((1, 2, 3), keepdim=True)
        images = ((light - grey) * contrast + grey).round_().clamp_(0, 255).to(torch.uint8)
    return images


def erase_boxes(images: Tensor, plan: AugmentationPlan, which: Tensor) -> Tensor:
    """Set the rectangles of normalized [n, C, H, W] to 0, the data's mean color."""
    if plan.boxes is None:
        return images
    top, left, bottom, right = plan.boxes[which].to(images.device)[:, :, None].unbind(1)
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    inside = ((row >= top) & (row < bottom))[:, None, :, None] & ((column >= left) & (column < right))[:, None, None, :]
    return images.masked_fill_(inside, 0.0)


def mix_images(images: Tensor, others: Tensor, plan: AugmentationPlan) -> Tensor:
    """Mix normalized [n, C, H, W] with their partners."""
    if plan.patch is None:
        return torch.lerp(others, images, plan.share)
    top, left, bottom, right = plan.patch
    images = images.clone()
    images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return images


def soft_labels(labels: Tensor, others: Tensor, share: float, classes: int) -> Tensor:
    """float32 [n, classes]: `share` for the image's own class or labels, the rest for its partner's."""
    hot = (each if each.ndim == 2 else functional.one_hot(each, classes) for each in (labels, others))
    own, other = (each.float() for each in hot)
    return torch.lerp(other, own, share)
