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

from deploy.runtime.certification.bench import bundle_images
from deploy.runtime.certification.checks import correct_answers
from deploy.runtime.device.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.device.energy import EnergyMeter
from deploy.runtime.device.probe import fingerprint, missing_needs
from deploy.runtime.device.state import chosen_precision
from deploy.runtime.engines import Engine, Hint, Settings, gpu_of, serving_engine
from toolchain.errors import DeviceError, RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.interleaved import THROUGHPUT_BATCH, UNREADABLE_REQUEST, WARMUP_CALLS, SliceRequest, SliceResult
from toolchain.records.tensors import Array

BUSY = bytes(4096)  # a few microseconds of hashing; of less, Python keeps the other threads out


def run_interleaved(
    bundle: Bundle, threads: int, lines_in: Iterable[str], lines_out: TextIO, state: Path | None = None
) -> None:
    """Answer each line until there are no more; engines are opened when first asked for, and stay open."""
    pictures = bundle_images(bundle)
    lacking = missing_needs(bundle.manifest.needs)
    with ExitStack() as opened:
        engines: dict[tuple[str, str, bool], tuple[Engine, EnergyMeter]] = {}
        for line in lines_in:
            try:
                if lacking:
                    raise DeviceError(lacking)
                turn = _parse_turn(line, bundle)
                if not turn.precision:
                    turn = msgspec.structs.replace(turn, precision=chosen_precision(bundle, threads, state))
                hint: Hint = "throughput" if turn.what == "throughput" else "latency"
                kind = turn.precision, hint, turn.pinned
                if kind not in engines:
                    settings = Settings(threads, hint, pinned=turn.pinned)
                    engine = opened.enter_context(serving_engine(bundle, settings, turn.precision))
                    engines[kind] = engine, EnergyMeter(gpu_of(engine))
                played = _run_slice(bundle, *engines[kind], pictures, turn)
                if turn.what == "pictures":
                    played = msgspec.structs.replace(played, threads=threads, precision=turn.precision)
            except ToolchainError as error:
                played = SliceResult(error=str(error))
            lines_out.write(msgspec.json.encode(played).decode() + "\n")
            lines_out.flush()


def _run_slice(bundle: Bundle, engine: Engine, meter: EnergyMeter, pictures: Array, turn: SliceRequest) -> SliceResult:
    before = throttled_periods()
    if turn.what == "pictures":
        right = correct_answers(bundle, engine)
        found = SliceResult(right=() if right is None else tuple(map(bool, right)), device=fingerprint())
    elif turn.what == "throughput":
        began = meter.read()
        rate = measure_throughput(engine, pictures, turn.queries, turn.slower)
        found = SliceResult(throughput_per_s=rate, joules=meter.joules_since(began))
    else:
        found = SliceResult(latencies_ms=time_slice(engine, pictures, turn.queries, turn.slower))
    return msgspec.structs.replace(
        found,
        throttled_periods=throttled_periods() - before,
        peak_memory_bytes=peak_memory_bytes(),
        engine=engine.version,
    )


def time_slice(engine: Engine, pictures: Array, queries: int, slower: float = 0.0) -> tuple[float, ...]:
    """Latencies in ms of `queries` batch-1 calls, after some that do not count; slower: see Turn."""
    name = engine.inputs[0].name
    latencies_ms = []
    for query in range(-WARMUP_CALLS, queries):
        index = query % len(pictures)
        feeds = {name: pictures[index : index + 1]}
        began = perf_counter_ns()
        engine.infer(feeds)
        taken_ns = perf_counter_ns() - began
        latencies_ms.append((_spin(began, taken_ns, slower) if slower else taken_ns) / 1e6)
    return tuple(latencies_ms[WARMUP_CALLS:])


def _spin(began_ns: int, taken_ns: int, slower: float) -> int:
    """Keep the core busy for so much of the time taken, as a slower net would; all the time, ns. Hashing lets other
    threads run meanwhile, as an engine does."""
    end = began_ns + round(taken_ns * (1 + slower))
    while perf_counter_ns() < end:
        sha256(BUSY)
    return perf_counter_ns() - began_ns


def measure_throughput(engine: Engine, pictures: Array, queries: int, slower: float = 0.0) -> float:
    """Pictures a second of `queries` batches, from as many threads as keep the engine busy; slower: see Turn."""
    feeds = {engine.inputs[0].name: np.resize(pictures, (THROUGHPUT_BATCH, *pictures.shape[1:]))}

    def answer(_: int) -> None:
        began = perf_counter_ns()
        engine.infer(feeds)
        if slower:
            _spin(began, perf_counter_ns() - began, slower)

    with ThreadPoolExecutor(engine.requests) as pool:
        began = perf_counter_ns()
        list(pool.map(answer, range(queries)))
        return THROUGHPUT_BATCH * queries * 1e9 / (perf_counter_ns() - began)


def _parse_turn(line: str, bundle: Bundle) -> SliceRequest:
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
