"""Dynamic batching: several requests in one engine call, and how many are worth it. Pure functions.

The cost of a call is measured at start-up (batch_costs.py), because engines differ: OpenVINO answers a batch of five as
five calls of one, so only a full static batch is worth forming; TensorRT pads a batch to the next static size.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from deploy.runtime.scheduling.fair_queue import QueuedRequest
from toolchain.records.tensors import Array, TensorSpec

SHORT_CALL_S = 0.01  # a call of so many rows delays nobody much
MIN_SPEEDUP = 1.05  # a larger call must reach this much more throughput: each of its requests waits for the others


def best_batch_size(waiting: int, costs: Mapping[int, float], pads_batches: bool) -> int:
    """How many of `waiting` rows to answer in one call, at least 1; costs: seconds per call by its rows."""
    best, rate = 1, 1 / costs[1]
    for size in sorted(costs):
        rows = min(waiting, size)
        if (pads_batches or rows == size) and rows / costs[size] > rate * MIN_SPEEDUP:
            best, rate = rows, rows / costs[size]
    return best


def largest_call(costs: Mapping[int, float], sizes: Sequence[int]) -> int:
    """Rows of the calls that a request of more is cut into: those that the engine answers fastest, or a static size
    whose call is short all the same, since each call costs some time of its own."""
    return max(*costs, *(size for size in sizes if size * costs[1] <= SHORT_CALL_S), 1)


def costs_within_goal(costs: Mapping[int, float], goal_s: float | None) -> dict[int, float]:
    """The batch sizes whose call leaves half of the latency goal for waiting; 1 is always among them."""
    return {size: cost for size, cost in costs.items() if size == 1 or goal_s is None or cost <= goal_s / 2}


def is_batchable(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether rows of several requests can form a batch: the first axis is the batch, and the only free one."""
    return all(
        spec.shape and spec.shape[0] is None and None not in spec.shape[1:] for spec in (*inputs, *outputs)
    ) and bool(inputs)


def concatenate_feeds(requests: Sequence[QueuedRequest]) -> dict[str, Array]:
    """The feeds of all requests, concatenated."""
    if len(requests) == 1:
        return dict(requests[0].feeds)
    return {name: np.concatenate([job.feeds[name] for job in requests]) for name in requests[0].feeds}


def split_outputs(outputs: Mapping[str, Array], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Each request's rows of `outputs`."""
    ends = tuple(accumulate(sizes))
    return [
        {name: output[end - size : end] for name, output in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]
