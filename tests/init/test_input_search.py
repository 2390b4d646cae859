"""Which of several normalizations that are level is taken."""

import msgspec
import numpy as np
import pytest

from toolchain.init.input_search import sort_level
from toolchain.init.trials import TrialResult
from toolchain.records.tensors import Preprocessing

RGB = Preprocessing(8, 8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
BGR = msgspec.structs.replace(RGB, order="bgr")
OTHER = msgspec.structs.replace(RGB, mean=(0.1, 0.1, 0.1))


def result(preprocessing: Preprocessing, loss: float) -> TrialResult:
    return TrialResult(preprocessing, np.ones(4, bool), None, loss, np.zeros((4, 2), np.float32))


@pytest.mark.parametrize(
    ("losses", "order"),
    [
        ({"rgb": 0.0326, "bgr": 0.0323}, ["rgb", "bgr"]),  # a net whose classes have no colour: chance
        ({"rgb": 0.05, "bgr": 0.03}, ["bgr", "rgb"]),
        ({"bgr": 0.03, "other": 0.0301}, ["bgr", "other"]),
        ({"other": 0.0301, "rgb": 0.0326, "bgr": 0.0323}, ["other", "bgr", "rgb"]),
    ],
)
def test_bgr_is_taken_before_rgb_only_where_it_fits_better_by_more_than_a_hair(
    losses: dict[str, float], order: list[str]
) -> None:
    ways = {"rgb": RGB, "bgr": BGR, "other": OTHER}
    level = [(name, result(ways[name], loss)) for name, loss in losses.items()]
    assert [name for name, _ in sort_level(level, lambda each: each.loss or 0.0)] == order
