"""The guide to preprocessing is right: what it says to write for a training code gives the model that code's values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from toolchain.models.preprocessing import normalize_images
from toolchain.records.tensors import Preprocessing

Floats = NDArray[np.float64]
IMAGENET, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE = np.array([103.939, 116.779, 123.68])
ROWS: dict[str, tuple[Callable[[Floats], Floats], dict[str, object]]] = {
    "ToTensor": (lambda rgb: rgb / 255, {}),
    "ToTensor, Normalize": (lambda rgb: (rgb / 255 - IMAGENET) / DEVIATION, {"mean": IMAGENET, "std": DEVIATION}),
    "-1 to 1": (lambda rgb: rgb / 127.5 - 1, {"mean": (0.5,), "std": (0.5,)}),
    "0 to 255": (lambda rgb: rgb, {"scale": 1}),
    "0 to 255, folded": (lambda rgb: rgb, {"mean": (0.0,), "std": (0.00392156862745098,)}),
    "(byte - M) / S": (lambda rgb: (rgb - 128) / 64, {"scale": 1, "mean": (128.0,), "std": (64.0,)}),
    "(byte * scale - M) / S": (
        lambda rgb: (rgb * 0.017 - 2) / 3,
        {"mean": (2 / (255 * 0.017),), "std": (3 / (255 * 0.017),)},
    ),
    "OpenCV, BGR": (
        lambda rgb: (rgb[..., ::-1] / 255 - IMAGENET[::-1]) / DEVIATION[::-1],
        {"mean": IMAGENET[::-1], "std": DEVIATION[::-1], "order": "bgr"},
    ),
    "Caffe": (
        lambda rgb: rgb[..., ::-1] - CAFFE,
        {"scale": 1, "mean": tuple(CAFFE), "order": "bgr"},
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_guide_gives_what_the_training_code_gave(row: str) -> None:
    trained_on, keys = ROWS[row]
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    expected = trained_on(images.astype(np.float64)).transpose(0, 3, 1, 2)
    found = normalize_images(torch.from_numpy(images), Preprocessing(4, 5, 3, **keys)).numpy()  # type: ignore[arg-type]  # rows of several types
    assert np.allclose(found, expected, rtol=1e-3, atol=2e-3 * np.abs(expected).max())
