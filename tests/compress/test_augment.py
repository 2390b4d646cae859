from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.compress.nets import CLASSES, PREPROCESSING, part
from toolchain.compress.augment import Augmentation, draw_plan, erase_boxes, mix_images, soft_labels, transform_images
from toolchain.compress.batches import Batches

ALL = torch.arange(64)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cropped_and_flipped_images_are_shifts_and_mirrors_over_reflected_borders() -> None:
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 16, 1).expand(64, 8, 16, 1)
    found = transform_images(image, draw_plan(64, (8, 16), ("crop", "flip"), random()), ALL)
    padded = np.pad(np.arange(16), 2, mode="reflect")
    allowed = {tuple(padded[i : i + 16]) for i in range(5)} | {tuple(padded[i : i + 16][::-1]) for i in range(5)}
    rows = {tuple(row) for row in found[:, 0, :, 0].tolist()}
    assert rows <= allowed
    assert len(rows) == 10
    assert torch.equal(transform_images(image, draw_plan(64, (8, 16), (), random()), ALL), image)


def test_small_images_are_one_window_a_batch() -> None:
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 16, 1).expand(64, 8, 16, 1)
    found = transform_images(image, draw_plan(64, (8, 16), (), random(), small=True), ALL)
    assert found.shape == (64, 6, 12, 1)
    assert torch.equal(found, image[:, :6, int(found[0, 0, 0]) :][:, :, :12])


def test_colour_changes_brightness_and_contrast_of_each_image_its_own_way() -> None:
    image = torch.full((64, 4, 4, 3), 100, dtype=torch.uint8)
    image[:, 0] = 200
    found = transform_images(image, draw_plan(64, (4, 4), ("color",), random()), ALL)
    assert found.dtype == torch.uint8
    means, spreads = found.float().mean((1, 2, 3)), found.float().std((1, 2, 3))
    assert 125 * 0.59 < means.min() < means.max() < 125 * 1.41
    assert len(set(spreads.tolist())) > 40


def test_half_the_images_lose_a_box_of_two_to_forty_percent() -> None:
    images = torch.ones(2000, 3, 20, 30)
    found = erase_boxes(images, draw_plan(2000, (20, 30), ("erase",), random()), torch.arange(2000))
    lost = (found == 0).all(1).float().mean((1, 2))
    assert 0.45 < float((lost > 0).float().mean()) < 0.55
    assert 0.01 < float(lost[lost > 0].min()) < 0.04
    assert float(lost.max()) < 0.45
    assert torch.equal((found == 0).any(1), (found == 0).all(1))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_labels_say_how_much_of_whom_is_seen(kind: str) -> None:
    images = torch.arange(64.0).reshape(64, 1, 1, 1).expand(64, 1, 16, 16)
    for seed in range(8):
        plan = draw_plan(64, (16, 16), (kind,), random(seed))
        assert plan.partner is not None
        found = mix_images(images, images[plan.partner], plan)
        expected = plan.share * torch.arange(64.0) + (1 - plan.share) * plan.partner
        assert found.mean((1, 2, 3)).tolist() == pytest.approx(expected.tolist(), abs=1e-3)
        soft = soft_labels(ALL, plan.partner, plan.share, 64)
        assert (soft @ torch.arange(64.0)).tolist() == pytest.approx(expected.tolist(), abs=1e-3)
        assert soft.sum(1).tolist() == pytest.approx([1.0] * 64)


def test_both_ways_of_mixing_take_turns() -> None:
    patches = [draw_plan(8, (16, 16), ("mixup", "cutmix"), random(seed)).patch for seed in range(30)]
    assert 5 < sum(patch is None for patch in patches) < 25


@pytest.mark.parametrize("augment", [(), *((kind,) for kind in get_args(Augmentation)), get_args(Augmentation)])
def test_slices_together_are_the_batch_that_one_process_sees(augment: tuple[str, ...]) -> None:
    batches = Batches(part(50, 0), PREPROCESSING, torch.device("cpu"), classes=len(CLASSES))

    def epoch(slice_of: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
        return list(batches.random_batches(20, augment, random(), slice_of=slice_of))

    slices = [epoch((i, 3)) for i in range(3)]
    for number, (images, labels) in enumerate(epoch((0, 1))):
        assert torch.equal(torch.cat([one[number][0] for one in slices]), images)
        assert torch.equal(torch.cat([one[number][1] for one in slices]), labels)


def test_one_draw_serves_any_of_the_images() -> None:
    plan = draw_plan(64, (8, 8), ("crop", "flip", "color"), random())
    images = torch.from_numpy(part(64, 0).images[:])
    some = torch.tensor([5, 3, 60])
    assert torch.equal(transform_images(images[some], plan, some), transform_images(images, plan, ALL)[some])
    assert torch.equal(
        transform_images(images[some], replace(plan, rows=None, columns=None, factors=None), some), images[some]
    )
