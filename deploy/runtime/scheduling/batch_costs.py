"""The cost of an engine call by its rows, measured at start-up in a fraction of a second, so that requests are batched
where that raises throughput. Kept on the volume for this bundle, device, engine and number of threads.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from deploy.runtime.device.probe import fingerprint
from deploy.runtime.engines import Engine
from deploy.runtime.scheduling.batching import best_batch_size, costs_within_goal, is_batchable
from toolchain.errors import RecordError
from toolchain.records.storage import decode_record, encode_record, write_atomically
from toolchain.records.tensors import Feeds

FORMAT = 1
SLICE_S = 0.03
MAX_CALL_S = 0.025  # longer calls are not tried: every other request would wait for them
UNLIMITED_ROWS = 1 << 20


class BatchCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """costs: (rows, seconds per call with as many concurrent calls as keep the engine busy)."""

    costs: tuple[tuple[int, float], ...]
    format: int = FORMAT


def calibrate_batches(
    engine: Engine, key: Sequence[object], state: Path | None, goal_s: float | None
) -> dict[int, float]:
    """Seconds per call by rows; {} where requests of this model cannot be batched. Compiles the batch sizes that are
    used.

    key: what the costs depend on besides this device and the engine's version.
    """
    if not is_batchable(engine.inputs, engine.outputs):
        return {}
    name = sha256(msgspec.json.encode((key, fingerprint(), engine.version, engine.requests), enc_hook=str)).hexdigest()
    place = None if state is None else state / f"tuning-{name[:24]}.json"
    costs = _load_costs(place)
    if costs is None:
        costs = measure_batch_costs(engine)
        _save_costs(place, costs)
    costs = costs_within_goal(costs, goal_s)
    size = best_batch_size(UNLIMITED_ROWS, costs, engine.pads_batches)
    if size > 1:
        _warm_up(engine, size)
    return {rows: cost for rows, cost in costs.items() if rows <= size}


def measure_batch_costs(engine: Engine, slice_s: float = SLICE_S) -> dict[int, float]:
    costs: dict[int, float] = {}
    for rows in sorted({1, *engine.batch_sizes}):
        if rows > 1 and rows * costs[1] > MAX_CALL_S * 2:  # a larger batch is at most about twice as fast per row
            break
        if rows > 1:
            _warm_up(engine, rows)
        costs[rows] = _measure_call_s(engine, rows, slice_s)
    return {rows: cost for rows, cost in costs.items() if rows == 1 or cost <= MAX_CALL_S}


def _zero_feeds(engine: Engine, rows: int) -> Feeds:
    return {spec.name: np.zeros((rows, *(axis or 1 for axis in spec.shape[1:])), spec.dtype) for spec in engine.inputs}


def _warm_up(engine: Engine, rows: int) -> None:
    """Each concurrent call uses the batch size once, so that no client waits for its compilation and no figure includes
    it."""
    feeds = _zero_feeds(engine, rows)
    with ThreadPoolExecutor(engine.requests) as pool:
        for _ in pool.map(lambda _: engine.infer(feeds), range(engine.requests)):
            pass


def _measure_call_s(engine: Engine, rows: int, slice_s: float) -> float:
    """Seconds per call, with `engine.requests` calls at once."""
    feeds = _zero_feeds(engine, rows)
    began = time.perf_counter()

    def repeat_calls(_: int) -> int:
        calls = 0
        while calls == 0 or time.perf_counter() - began < slice_s:
            engine.infer(feeds)
            calls += 1
        return calls

    with ThreadPoolExecutor(engine.requests) as pool:
        calls = sum(pool.map(repeat_calls, range(engine.requests)))
    return (time.perf_counter() - began) * engine.requests / calls


def _load_costs(place: Path | None) -> dict[int, float] | None:
    """None where the record is missing or unreadable: the costs are then measured again."""
    if place is None:
        return None
    try:
        return dict(decode_record(place.read_bytes(), BatchCosts, str(place), FORMAT).costs)
    except (OSError, RecordError):
        return None


def _save_costs(place: Path | None, costs: dict[int, float]) -> None:
    if place is not None:
        try:
            write_atomically(place, encode_record(BatchCosts(tuple(costs.items()))))
        except OSError:
            return  # the volume is full: measured again at the next start
