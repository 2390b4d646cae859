"""The messages for requests whose tensors do not match the model."""

import re

import numpy as np
import pytest

from toolchain.errors import RequestError
from toolchain.records.report import percentile
from toolchain.records.tensors import Preprocessing, TensorSpec, check_feeds

IMAGE = TensorSpec("image", "uint8", (None, 224, 224, 3))


def test_a_matching_tensor_is_accepted_with_any_batch() -> None:
    for batch in (1, 7):
        check_feeds([IMAGE], {"image": np.zeros((batch, 224, 224, 3), np.uint8)})


def test_a_wrong_tensor_is_refused_with_what_was_expected_and_received() -> None:
    with pytest.raises(RequestError) as caught:
        check_feeds([IMAGE], {"image": np.zeros((1, 3, 224, 224), np.float32)})
    assert str(caught.value) == "input 'image': expected uint8 [N, 224, 224, 3], got float32 [1, 3, 224, 224]"


def test_a_missing_and_an_unknown_input_are_named() -> None:
    with pytest.raises(RequestError, match="input 'image' is missing"):
        check_feeds([IMAGE], {})
    with pytest.raises(RequestError, match="no input 'mask': the model has image"):
        check_feeds([IMAGE], {"image": np.zeros((1, 224, 224, 3), np.uint8), "mask": np.zeros(1)})


def test_a_percentile_of_too_few_samples_is_none() -> None:
    assert percentile([float(rank) for rank in range(1, 65)], 90.0) == 58.0
    assert percentile([1.0] * 63, 90.0) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"resize": (200, 256)}, "resize = [200, 256]; expected at least height x width, 224 x 224"),
        ({"resize": (256, 0)}, "resize = 0; expected at least 1 pixel"),
        ({"filter": "lanczos", "resampler": "torch-no-antialias"}, "has: bilinear, bicubic, nearest"),
        ({"letterbox": (114, 114)}, "letterbox = [114, 114]; expected a colour: 1 or 3 bytes"),
        ({"letterbox": (256,)}, "letterbox = [256]; expected a colour"),
    ],
)
def test_a_geometry_that_no_image_can_have_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Preprocessing(224, 224, **keys)  # type: ignore[arg-type]  # keys of several types
