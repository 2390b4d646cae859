"""The container's side of an interleaved measurement: it runs one slice per request, so that the host can alternate
between containers.

A line of JSON in, `{"precision": "int8", "queries": 64}`; a line of JSON out, `{"latencies_ms": [...]}` or
`{"error": "..."}`; it ends when its input does. The host decides the order (deploy/gate/interleaved.py).
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
from deploy.runtime.certification.checks import golden_classes, grade_answers
from deploy.runtime.device.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.device.energy import EnergyMeter
from deploy.runtime.device.probe import fingerprint, missing_needs
from deploy.runtime.device.state import chosen_precision
from deploy.runtime.engines import Engine, Hint, Settings, gpu_of, serving_engine
from toolchain.errors import DeviceError, RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.interleaved import THROUGHPUT_BATCH, UNREADABLE_REQUEST, WARMUP_CALLS, SliceRequest, SliceResult
from toolchain.records.tensors import Array

BUSY = bytes(4096)  # a few microseconds of hashing; for much smaller inputs hashlib keeps Python's global lock


def run_interleaved(
    bundle: Bundle, threads: int, lines_in: Iterable[str], lines_out: TextIO, state: Path | None = None
) -> None:
    """Answer each line until there are no more; the first request for an engine opens it, and it stays open."""
    images = bundle_images(bundle)
    missing = missing_needs(bundle.manifest.needs)
    with ExitStack() as stack:
        engines: dict[tuple[str, str, bool], tuple[Engine, EnergyMeter]] = {}
        for line in lines_in:
            try:
                if missing:
                    raise DeviceError(missing)
                request = _parse_request(line, bundle)
                if not request.precision:
                    request = msgspec.structs.replace(request, precision=chosen_precision(bundle, threads, state))
                hint: Hint = "throughput" if request.what == "throughput" else "latency"
                key = request.precision, hint, request.pinned
                if key not in engines:
                    settings = Settings(threads, hint, pinned=request.pinned)
                    engine = stack.enter_context(serving_engine(bundle, settings, request.precision))
                    engines[key] = engine, EnergyMeter(gpu_of(engine))
                result = _run_slice(bundle, *engines[key], images, request)
                if request.what == "pictures":
                    result = msgspec.structs.replace(result, threads=threads, precision=request.precision)
            except ToolchainError as error:
                result = SliceResult(error=str(error))
            lines_out.write(msgspec.json.encode(result).decode() + "\n")
            lines_out.flush()


def _run_slice(bundle: Bundle, engine: Engine, meter: EnergyMeter, images: Array, request: SliceRequest) -> SliceResult:
    before = throttled_periods()
    if request.what == "pictures":
        grades = grade_answers(bundle, engine)
        answers, inputs = golden_classes(bundle, engine)
        right = () if grades is None else tuple(bool(grade == 1) for grade in grades)
        result = SliceResult(right=right, answers=answers, inputs=inputs, device=fingerprint())
    elif request.what == "throughput":
        began = meter.read()
        rate = measure_throughput(engine, images, request.queries, request.slower)
        result = SliceResult(throughput_per_s=rate, joules=meter.joules_since(began))
    else:
        result = SliceResult(latencies_ms=time_slice(engine, images, request.queries, request.slower))
    return msgspec.structs.replace(
        result,
        throttled_periods=throttled_periods() - before,
        peak_memory_bytes=peak_memory_bytes(),
        engine=engine.version,
    )


def time_slice(engine: Engine, images: Array, queries: int, slower: float = 0.0) -> tuple[float, ...]:
    """Latencies in ms of `queries` batch-1 calls, after WARMUP_CALLS uncounted ones; slower: see SliceRequest."""
    name = engine.inputs[0].name
    latencies_ms = []
    for query in range(-WARMUP_CALLS, queries):
        index = query % len(images)
        feeds = {name: images[index : index + 1]}
        began = perf_counter_ns()
        engine.infer(feeds)
        taken_ns = perf_counter_ns() - began
        latencies_ms.append((_spin(began, taken_ns, slower) if slower else taken_ns) / 1e6)
    return tuple(latencies_ms[WARMUP_CALLS:])


def _spin(began_ns: int, taken_ns: int, slower: float) -> int:
    """Keep the core busy for a further `slower` of the time taken, as a slower model would; the whole time, ns. Hashing
    lets other threads run meanwhile, as an engine does."""
    end = began_ns + round(taken_ns * (1 + slower))
    while perf_counter_ns() < end:
        sha256(BUSY)
    return perf_counter_ns() - began_ns


def measure_throughput(engine: Engine, images: Array, queries: int, slower: float = 0.0) -> float:
    """Images per second over `queries` batches, from `engine.requests` threads; slower: see SliceRequest."""
    feeds = {engine.inputs[0].name: np.resize(images, (THROUGHPUT_BATCH, *images.shape[1:]))}

    def answer(_: int) -> None:
        began = perf_counter_ns()
        engine.infer(feeds)
        if slower:
            _spin(began, perf_counter_ns() - began, slower)

    with ThreadPoolExecutor(engine.requests) as pool:
        began = perf_counter_ns()
        list(pool.map(answer, range(queries)))
        return THROUGHPUT_BATCH * queries * 1e9 / (perf_counter_ns() - began)


def _parse_request(line: str, bundle: Bundle) -> SliceRequest:
    try:
        request = msgspec.json.decode(line, type=SliceRequest)
    except msgspec.MsgspecError as error:
        raise RequestError(f'{UNREADABLE_REQUEST}: {error}; expected {{"precision": "int8", "queries": 64}}') from error
    precisions = [candidate.precision for candidate in bundle.manifest.candidates]
    if request.precision and request.precision not in precisions:
        raise RequestError(f"no candidate '{request.precision}' in this bundle; it has: {', '.join(precisions)}")
    if request.queries < 1:
        raise RequestError(f"queries: expected at least 1, got {request.queries}")
    return request
