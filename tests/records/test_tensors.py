"""The messages for requests whose tensors do not match the model."""

import numpy as np
import pytest

from toolchain.errors import RequestError
from toolchain.records.report import percentile
from toolchain.records.tensors import TensorSpec, check_feeds

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
