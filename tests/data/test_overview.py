from dataclasses import replace

import numpy as np

from tests.data.permuted_labels import CLASSES, data_of
from toolchain.data.overview import look_at_data


def test_classes_sizes_pixels_and_images_in_two_splits_are_found() -> None:
    made = data_of(CLASSES)
    random = np.random.default_rng(0)
    splits = {
        name: replace(made.split("test"), images=random.integers(0, 256, (40, 8, 8, 3), np.uint8))
        for name in ("train", "validate", "certify", "test")
    }
    np.asarray(splits["test"].images)[[3, 30]] = splits["train"].images[[5, 6]]
    found = look_at_data(replace(made, splits=splits))
    assert found.images == {"train": 40, "validate": 40, "certify": 40, "test": 40}
    assert found.a_class == (40, 40, 40, 40)
    assert (found.smallest, found.largest) == ((8, 8), (8, 8))
    assert np.allclose(found.mean, 0.5, atol=0.02)
    assert np.allclose(found.std, 0.29, atol=0.02)
    assert found.doubled == (3, 30)


def test_an_image_has_several_labels() -> None:
    assert look_at_data(data_of(CLASSES, multilabel=True)).a_class == (40, 10, 10, 10)
