"""Batches and epochs that fit the number of images."""

import pytest

from toolchain.init.training_plan import UPDATES, training_length


@pytest.mark.parametrize("images", [3, 40, 200, 1_000, 20_000, 1_000_000])
def test_there_are_some_hundred_updates_however_few_images_there_are(images: int) -> None:
    length = training_length(images)
    assert length.updates >= min(UPDATES, 60)
    assert length.batch_size <= images


def test_many_images_get_large_batches_and_few_epochs() -> None:
    assert (training_length(50_000).batch_size, training_length(50_000).epochs) == (128, 3)
