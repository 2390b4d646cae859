"""What a call of the engine costs here by its rows, measured at the start in a fraction of a second, so that requests
are put together where that pays. Kept on the volume for this bundle, device, engine and number of threads.
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
MAX_CALL_S = 0.025  # a call that would take longer is not tried: it would make all others wait for it
UNLIMITED_ROWS = 1 << 20


class BatchCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """costs: (rows, seconds of a call with as many calls at once as keep the engine busy)."""

    costs: tuple[tuple[int, float], ...]
    format: int = FORMAT


def calibrate_batches(
    engine: Engine, key: Sequence[object], state: Path | None, goal_s: float | None
) -> dict[int, float]:
    """Costs by rows, {} where requests of this model cannot be put together. What they make worth using is compiled.

    key: what the costs depend on beside this device and the engine's version.
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
        if rows > 1 and rows * costs[1] > MAX_CALL_S * 2:  # a larger batch is up to some two times faster a row
            break
        if rows > 1:
            _warm_up(engine, rows)
        costs[rows] = _measure_call_s(engine, rows, slice_s)
    return {rows: cost for rows, cost in costs.items() if rows == 1 or cost <= MAX_CALL_S}


def _zero_feeds(engine: Engine, rows: int) -> Feeds:
    return {spec.name: np.zeros((rows, *(axis or 1 for axis in spec.shape[1:])), spec.dtype) for spec in engine.inputs}


def _warm_up(engine: Engine, rows: int) -> None:
    """Every call at once meets its form once: no client waits for one to be compiled, and no figure counts that."""
    feeds = _zero_feeds(engine, rows)
    with ThreadPoolExecutor(engine.requests) as pool:
        for _ in pool.map(lambda _: engine.infer(feeds), range(engine.requests)):
            pass


def _measure_call_s(engine: Engine, rows: int, slice_s: float) -> float:
    """Seconds of a call, `engine.requests` of them at once."""
    feeds = _zero_feeds(engine, rows)
    began = time.perf_counter()

    def play(_: int) -> int:
        calls = 0
        while calls == 0 or time.perf_counter() - began < slice_s:
            engine.infer(feeds)
            calls += 1
        return calls

    with ThreadPoolExecutor(engine.requests) as pool:
        calls = sum(pool.map(play, range(engine.requests)))
    return (time.perf_counter() - began) * engine.requests / calls


def _load_costs(place: Path | None) -> dict[int, float] | None:
    """None: not there, or not to be read: measured again."""
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
            return  # a full volume: measured again at the next start
