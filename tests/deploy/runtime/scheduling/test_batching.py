"""How many requests it pays to answer together, and that each gets its own rows."""

import numpy as np
import pytest

from deploy.runtime.scheduling.batching import (
    best_batch_size,
    concatenate_feeds,
    costs_within_goal,
    is_batchable,
    split_outputs,
)
from deploy.runtime.scheduling.fair_queue import QueuedRequest
from toolchain.records.tensors import TensorSpec

CHEAP = {1: 1.0, 8: 4.0, 32: 14.0}  # 1, 2 and 2.3 rows a second
FREE = TensorSpec("image", "uint8", (None, 2))


@pytest.mark.parametrize(
    ("waiting", "fills", "expected"),
    [
        (1, False, 1),
        (7, False, 1),
        (8, False, 8),
        (31, False, 8),
        (40, False, 32),
        (3, True, 1),
        (5, True, 5),
        (20, True, 8),
    ],
)
def test_as_many_are_put_together_as_are_answered_faster_so(waiting: int, fills: bool, expected: int) -> None:
    assert best_batch_size(waiting, CHEAP, fills) == expected


def test_where_larger_calls_win_nothing_each_request_is_answered_alone() -> None:
    assert best_batch_size(100, {1: 1.0, 8: 7.9}, pads_batches=True) == 1
    assert best_batch_size(100, {1: 1.0}, pads_batches=True) == 1


def test_calls_that_leave_no_time_to_wait_within_the_goal_are_not_made() -> None:
    assert costs_within_goal({1: 0.009, 8: 0.004, 32: 0.006}, 0.01) == {1: 0.009, 8: 0.004}
    assert costs_within_goal(CHEAP, None) == CHEAP


def test_rows_come_back_to_the_request_that_they_were_of() -> None:
    jobs = [
        QueuedRequest({"image": np.full((rows, 2), rows, np.uint8)}, rows, lambda outcome: None, 0.0)
        for rows in (1, 3, 2)
    ]
    together = concatenate_feeds(jobs)
    assert together["image"][:, 0].tolist() == [1, 3, 3, 3, 2, 2]
    parts = split_outputs({"logits": together["image"] * 2}, [1, 3, 2])
    assert [part["logits"][:, 0].tolist() for part in parts] == [[2], [6, 6, 6], [4, 4]]


def test_only_models_whose_batch_is_their_one_free_axis_are_joined() -> None:
    assert is_batchable([FREE], [FREE])
    assert not is_batchable([FREE], [TensorSpec("found", "float32", (None, None))])
    assert not is_batchable([TensorSpec("image", "uint8", (1, 2))], [FREE])
