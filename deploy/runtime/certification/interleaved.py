"""The container's half of a duet: it plays a slice when asked, so that contestants can be measured in turn.

A line of JSON in, `{"precision": "int8", "queries": 64}`; a line of JSON out, `{"latencies_ms": [...]}` or
`{"error": "..."}`; it ends when its input does. Whose turn it is, only the host knows (deploy/gate/interleaved.py).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from time import perf_counter_ns
from typing import TextIO

import msgspec
import numpy as np

from deploy.runtime.certification.bench import real_pictures
from deploy.runtime.certification.checks import answered_right
from deploy.runtime.device.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.device.energy import Meter
from deploy.runtime.device.probe import fingerprint, missing_needs
from deploy.runtime.device.state import chosen_here
from deploy.runtime.engines import Engine, Hint, Settings, gpu_of, serving_engine
from toolchain.errors import DeviceError, RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.interleaved import THROUGHPUT_BATCH, UNREADABLE_REQUEST, WARMUP_CALLS, SliceRequest, SliceResult
from toolchain.records.tensors import Array

BUSY = bytes(4096)  # a few microseconds of hashing; of less, Python keeps the other threads out


def run_duet(
    bundle: Bundle, threads: int, lines_in: Iterable[str], lines_out: TextIO, state: Path | None = None
) -> None:
    """Answer each line until there are no more; engines are opened when first asked for, and stay open."""
    pictures = real_pictures(bundle)
    lacking = missing_needs(bundle.manifest.needs)
    with ExitStack() as opened:
        engines: dict[tuple[str, str, bool], tuple[Engine, Meter]] = {}
        for line in lines_in:
            try:
                if lacking:
                    raise DeviceError(lacking)
                turn = _turn(line, bundle)
                if not turn.precision:
                    turn = msgspec.structs.replace(turn, precision=chosen_here(bundle, threads, state))
                hint: Hint = "throughput" if turn.what == "throughput" else "latency"
                kind = turn.precision, hint, turn.pinned
                if kind not in engines:
                    settings = Settings(threads, hint, pinned=turn.pinned)
                    engine = opened.enter_context(serving_engine(bundle, settings, turn.precision))
                    engines[kind] = engine, Meter(gpu_of(engine))
                played = _played(bundle, *engines[kind], pictures, turn)
                if turn.what == "pictures":
                    played = msgspec.structs.replace(played, threads=threads, precision=turn.precision)
            except ToolchainError as error:
                played = SliceResult(error=str(error))
            lines_out.write(msgspec.json.encode(played).decode() + "\n")
            lines_out.flush()


def _played(bundle: Bundle, engine: Engine, meter: Meter, pictures: Array, turn: SliceRequest) -> SliceResult:
    before = throttled_periods()
    if turn.what == "pictures":
        right = answered_right(bundle, engine)
        found = SliceResult(right=() if right is None else tuple(map(bool, right)), device=fingerprint())
    elif turn.what == "throughput":
        began = meter.read()
        rate = throughput_of(engine, pictures, turn.queries, turn.slower)
        found = SliceResult(throughput_per_s=rate, joules=meter.joules(began))
    else:
        found = SliceResult(latencies_ms=slice_of(engine, pictures, turn.queries, turn.slower))
    return msgspec.structs.replace(
        found,
        throttled_periods=throttled_periods() - before,
        peak_memory_bytes=peak_memory_bytes(),
        engine=engine.version,
    )


def slice_of(engine: Engine, pictures: Array, queries: int, slower: float = 0.0) -> tuple[float, ...]:
    """Latencies in ms of `queries` batch-1 calls, after some that do not count; slower: see Turn."""
    name = engine.inputs[0].name
    latencies_ms = []
    for query in range(-WARMUP_CALLS, queries):
        index = query % len(pictures)
        feeds = {name: pictures[index : index + 1]}
        began = perf_counter_ns()
        engine.infer(feeds)
        taken_ns = perf_counter_ns() - began
        latencies_ms.append((_spun(began, taken_ns, slower) if slower else taken_ns) / 1e6)
    return tuple(latencies_ms[WARMUP_CALLS:])


def _spun(began_ns: int, taken_ns: int, slower: float) -> int:
    """Keep the core busy for so much of the time taken, as a slower net would; all the time, ns. Hashing lets other
    threads run meanwhile, as an engine does."""
    end = began_ns + round(taken_ns * (1 + slower))
    while perf_counter_ns() < end:
        sha256(BUSY)
    return perf_counter_ns() - began_ns


def throughput_of(engine: Engine, pictures: Array, queries: int, slower: float = 0.0) -> float:
    """Pictures a second of `queries` batches, from as many threads as keep the engine busy; slower: see Turn."""
    feeds = {engine.inputs[0].name: np.resize(pictures, (THROUGHPUT_BATCH, *pictures.shape[1:]))}

    def answer(_: int) -> None:
        began = perf_counter_ns()
        engine.infer(feeds)
        if slower:
            _spun(began, perf_counter_ns() - began, slower)

    with ThreadPoolExecutor(engine.requests) as pool:
        began = perf_counter_ns()
        list(pool.map(answer, range(queries)))
        return THROUGHPUT_BATCH * queries * 1e9 / (perf_counter_ns() - began)


def _turn(line: str, bundle: Bundle) -> SliceRequest:
    try:
        turn = msgspec.json.decode(line, type=SliceRequest)
    except msgspec.MsgspecError as error:
        raise RequestError(f'{UNREADABLE_REQUEST}: {error}; expected {{"precision": "int8", "queries": 64}}') from error
    held = [candidate.precision for candidate in bundle.manifest.candidates]
    if turn.precision and turn.precision not in held:
        raise RequestError(f"no candidate '{turn.precision}' in this bundle; it has: {', '.join(held)}")
    if turn.queries < 1:
        raise RequestError(f"queries: expected at least 1, got {turn.queries}")
    return turn
