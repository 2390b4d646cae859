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
from deploy.runtime.scheduling.batching import joinable, within, worth
from toolchain.errors import RecordError
from toolchain.records.storage import decode_record, encode_record, write_atomically
from toolchain.records.tensors import Feeds

FORMAT = 1
SLICE_S = 0.03
LONGEST_S = 0.025  # a call that would take longer is not tried: it would make all others wait for it
MANY = 1 << 20


class Tuning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """costs: (rows, seconds of a call with as many calls at once as keep the engine busy)."""

    costs: tuple[tuple[int, float], ...]
    format: int = FORMAT


def tuned(engine: Engine, key: Sequence[object], state: Path | None, goal_s: float | None) -> dict[int, float]:
    """Costs by rows, {} where requests of this model cannot be put together. What they make worth using is compiled.

    key: what the costs depend on beside this device and the engine's version.
    """
    if not joinable(engine.inputs, engine.outputs):
        return {}
    name = sha256(msgspec.json.encode((key, fingerprint(), engine.version, engine.requests), enc_hook=str)).hexdigest()
    place = None if state is None else state / f"tuning-{name[:24]}.json"
    costs = _kept(place)
    if costs is None:
        costs = measured_costs(engine)
        _keep(place, costs)
    costs = within(costs, goal_s)
    size = worth(MANY, costs, engine.fills)
    if size > 1:
        _prepare(engine, size)
    return {rows: cost for rows, cost in costs.items() if rows <= size}


def measured_costs(engine: Engine, slice_s: float = SLICE_S) -> dict[int, float]:
    costs: dict[int, float] = {}
    for rows in sorted({1, *engine.forms}):
        if rows > 1 and rows * costs[1] > LONGEST_S * 2:  # a larger batch is up to some two times faster a row
            break
        if rows > 1:
            _prepare(engine, rows)
        costs[rows] = _cost(engine, rows, slice_s)
    return {rows: cost for rows, cost in costs.items() if rows == 1 or cost <= LONGEST_S}


def _feeds(engine: Engine, rows: int) -> Feeds:
    return {spec.name: np.zeros((rows, *(axis or 1 for axis in spec.shape[1:])), spec.dtype) for spec in engine.inputs}


def _prepare(engine: Engine, rows: int) -> None:
    """Every call at once meets its form once: no client waits for one to be compiled, and no figure counts that."""
    feeds = _feeds(engine, rows)
    with ThreadPoolExecutor(engine.requests) as pool:
        for _ in pool.map(lambda _: engine.infer(feeds), range(engine.requests)):
            pass


def _cost(engine: Engine, rows: int, slice_s: float) -> float:
    """Seconds of a call, `engine.requests` of them at once."""
    feeds = _feeds(engine, rows)
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


def _kept(place: Path | None) -> dict[int, float] | None:
    """None: not there, or not to be read: measured again."""
    try:
        return dict(decode_record(place.read_bytes(), Tuning, str(place), FORMAT).costs) if place is not None else None
    except (OSError, RecordError):
        return None


def _keep(place: Path | None, costs: dict[int, float]) -> None:
    if place is not None:
        try:
            write_atomically(place, encode_record(Tuning(tuple(costs.items()))))
        except OSError:
            return  # a full volume: measured again at the next start
