"""float32 pictures of those who preprocess themselves are turned back into the pixels that they came from."""

import numpy as np
import pytest

from deploy.runtime.protocol.denormalize import denormalize, is_normalized_image
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

BYTES = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def normalized(picture: Array, preprocessing: Preprocessing) -> Array:
    """As PyTorch's users write it: NCHW, the network's order of channels."""
    channels = picture[..., ::-1] if preprocessing.order == "bgr" else picture
    scaled = (channels / np.float32(preprocessing.scale) - np.float32(preprocessing.mean)) / np.float32(
        preprocessing.std
    )
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(4, 5),
        Preprocessing(4, 5, **IMAGENET),
        Preprocessing(4, 5, **IMAGENET, order="bgr"),
        Preprocessing(4, 5, scale=1, mean=(104.0,), std=(2.0,)),
    ],
)
def test_every_pixel_comes_back_as_it_was(preprocessing: Preprocessing) -> None:
    floats = normalized(BYTES, preprocessing)
    for array in (floats, floats.astype(np.float16)):
        assert np.array_equal(denormalize("image", array, preprocessing), BYTES), array.dtype


def test_values_that_no_pixel_becomes_are_refused_with_what_was_expected() -> None:
    for wrong in (BYTES.transpose(0, 3, 1, 2).astype(np.float32), np.full((1, 3, 4, 5), np.nan, np.float32)):
        with pytest.raises(RequestError, match=r"expected floats as \(pixel / 255 - mean\) / std with mean \[0.485"):
            denormalize("image", wrong, Preprocessing(4, 5, **IMAGENET))


def test_only_floats_in_the_order_of_pytorch_are_taken_for_it() -> None:
    spec, preprocessing = TensorSpec("image", "uint8", (None, 4, 5, 3)), Preprocessing(4, 5)
    assert is_normalized_image(spec, "FP32", [2, 3, 4, 5], preprocessing)
    assert is_normalized_image(spec, "FP16", [2, 3, 4, 5], preprocessing)
    assert not is_normalized_image(spec, "FP32", [2, 4, 5, 3], preprocessing)
    assert not is_normalized_image(spec, "FP64", [2, 3, 4, 5], preprocessing)
    assert not is_normalized_image(TensorSpec("image", "float32", (None, 3, 4, 5)), "FP32", [2, 3, 4, 5], preprocessing)
