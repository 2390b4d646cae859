"""MLPerf LoadGen's scenarios, run against an engine: SingleStream, MultiStream, Server and Offline.

LoadGen decides when to issue the next query, which images it contains, how long the run must be and whether it was
valid. Throughput, duration, validity and the Offline latency are LoadGen's figures. Its Python module does not return
individual latencies, and its trace takes 0.7 kB per query; latencies are therefore measured here, around the call that
LoadGen makes (Server: from the call until the answer). They are 3-4 us shorter than LoadGen's own; a stream's run
whose median differs by more than _disagreement() allows is invalid.

Reddi et al., MLPerf Inference Benchmark, ISCA 2020. Knows nothing about bundles or reports.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import mlperf_loadgen as lg
import numpy as np

from deploy.runtime.engines import Engine
from toolchain.errors import DeviceError
from toolchain.records.report import SAMPLES_FOR, Scenario, percentile
from toolchain.records.tensors import Array

STREAMS = 8  # images per MultiStream query, by MLPerf's rules for edge systems
SERVER_PERCENTILE = 0.99
BATCH = 16  # of 1 to 32, about the fastest for ResNet-18 at 32x32 and MobileNet-v2 at 224x224 (OpenVINO, 2 cores)
WARM_UP_NS = 200_000_000
QUERIES = SAMPLES_FOR[90.0]  # SingleStream's figure is the 90th percentile
MAX_DURATION_FACTOR = 4  # a slow model's run ends, invalid, after this multiple of the requested seconds
# LoadGen generates its queries in advance from an expected speed; with too few, the run is invalid. The expected speed
# is the first headroom times the warm-up's speed and, while that is not enough (the CPU clock has risen), the next
# headroom times the previous run's speed. Offline answers every generated query, so its headroom costs time.
HEADROOM, OFFLINE_HEADROOM = (2.0, 4.0, 8.0), (1.2, 1.5, 2.5)
UNMET = {
    "result_min_duration_met": "it ended before the requested time",
    "result_min_queries_met": "too few queries: run longer",
    "early_stopping_met": "too few queries for a percentile with 99 % confidence: run longer",
    "result_perf_constraints_met": "too many queries took longer than the limit",
}
LOG_FOLDERS = ("/dev/shm", "/tmp")
LoadGenLog = dict[str, Any]
AnswerSamples = Callable[[Sequence[Any]], None]


def single_stream(engine: Engine, images: Array, seconds: float) -> Scenario:
    """One image per query, each issued when the previous one is answered, for `seconds` and at least 64 queries."""
    return _run_stream(engine, images, seconds, 1)


def multi_stream(engine: Engine, images: Array, seconds: float) -> Scenario:
    """Eight images per query, each issued when the previous one is answered, for `seconds` and at least 64 queries."""
    return _run_stream(engine, images, seconds, STREAMS)


def _run_stream(engine: Engine, images: Array, seconds: float, streams: int) -> Scenario:
    name = engine.inputs[0].name
    feeds = [{name: np.take(images, range(at, at + streams), axis=0, mode="wrap")} for at in range(len(images))]
    fastest_ns: float = min(_warm_up([partial(engine.infer, feed) for feed in feeds]))
    latencies_ms: list[float] = []
    scenario = "SingleStream" if streams == 1 else "MultiStream"

    def answer(samples: Sequence[Any]) -> None:
        began = perf_counter_ns()
        engine.infer(feeds[samples[0].index])
        latencies_ms.append((perf_counter_ns() - began) / 1e6)

    log: LoadGenLog = {}
    for headroom in HEADROOM:
        latencies_ms.clear()
        settings = _settings(getattr(lg.TestScenario, scenario), seconds)
        settings.min_query_count = QUERIES
        settings.max_duration_ms = round(MAX_DURATION_FACTOR * seconds * 1000)
        settings.single_stream_expected_latency_ns = round(fastest_ns / headroom)
        settings.multi_stream_expected_latency_ns = round(fastest_ns / headroom)
        settings.multi_stream_samples_per_query = streams
        log = _run(settings, len(images), _GuardedCallback(answer))
        if log["result_min_duration_met"]:
            break
        fastest_ns = min(latencies_ms) * 1e6
    few = streams > 1 and len(latencies_ms) < SAMPLES_FOR[99.0]  # LoadGen then calls it invalid, without a reason
    note = f"{len(latencies_ms)} queries; its 99th percentile needs {SAMPLES_FOR[99.0]}: run longer" if few else ""
    note = note or describe_invalid_run(log, len(latencies_ms)) or _disagreement(log, latencies_ms)
    rate = streams * len(latencies_ms) * 1e3 / sum(latencies_ms)
    if streams == 1:
        rate = log["result_qps_with_loadgen_overhead"]
    return _scenario(scenario, tuple(latencies_ms), rate, streams * len(latencies_ms), note)


def server(engine: Engine, images: Array, seconds: float, rate: float, limit_ms: float) -> Scenario:
    """One image per query; queries arrive as a Poisson process, on average `rate` per second. Valid when 99 % are
    answered within `limit_ms`; throughput_per_s counts answered queries."""
    feeds = [{engine.inputs[0].name: images[index : index + 1]} for index in range(len(images))]
    _warm_up([partial(engine.infer, feed) for feed in feeds])
    latencies_ms: list[float] = []

    def answer(samples: Sequence[Any]) -> None:
        engine.infer(feeds[samples[0].index])

    callback = _GuardedCallback(answer)

    def answer_and_time(samples: Sequence[Any], arrived_ns: int) -> None:
        callback(samples)
        latencies_ms.append((perf_counter_ns() - arrived_ns) / 1e6)

    settings = _settings(lg.TestScenario.Server, seconds)
    settings.min_query_count = QUERIES
    settings.max_duration_ms = round(MAX_DURATION_FACTOR * seconds * 1000)
    settings.server_target_qps = rate
    settings.server_target_latency_ns = round(limit_ms * 1e6)
    settings.server_target_latency_percentile = SERVER_PERCENTILE
    with ThreadPoolExecutor(engine.requests) as pool:
        log = _run(
            settings, len(images), callback, lambda samples: pool.submit(answer_and_time, samples, perf_counter_ns())
        )
    note = describe_invalid_run(log, len(latencies_ms))
    if not note and (percentile(latencies_ms, 99.0) or 0.0) > limit_ms:
        slowest_ms = f"{percentile(latencies_ms, 99.0):.1f} ms"
        note = f"99 % took up to {slowest_ms} at {rate:.0f} queries per second; the limit is {limit_ms:g} ms"
    return _scenario("Server", tuple(latencies_ms), log["result_completed_samples_per_sec"], len(latencies_ms), note)


def offline(engine: Engine, images: Array, seconds: float, batch: int = BATCH) -> Scenario:
    """All images in one query, answered in batches from `engine.requests` threads, for about `seconds`.

    latencies_ms holds the latency of that query. The last batch is padded, so that the engine sees a single shape.
    """
    name = engine.inputs[0].name
    full_batch = {name: np.resize(images, (batch, *images.shape[1:]))}

    def answer(samples: Sequence[Any]) -> None:
        indices = [sample.index for sample in samples]
        engine.infer({name: images[np.resize(indices, batch)]})

    log: LoadGenLog = {}
    with ThreadPoolExecutor(engine.requests) as pool:
        once_ns = median(_warm_up([lambda: _at_once(pool, engine.requests, partial(engine.infer, full_batch))]))
        rate = 1e9 * batch * engine.requests / once_ns
        for headroom in OFFLINE_HEADROOM:
            settings = _settings(lg.TestScenario.Offline, seconds)
            settings.min_query_count = 1
            settings.offline_expected_qps = headroom * rate
            callback = _GuardedCallback(answer)
            log = _run(settings, len(images), callback, partial(callback.spread, pool=pool, batch=batch))
            rate = log["result_samples_per_second"]
            if log["result_min_duration_met"]:
                break
    latency_ms = log["result_max_latency_ns"] / 1e6
    return _scenario("Offline", (latency_ms,), rate, rate * latency_ms / 1e3, describe_invalid_run(log, None))


def _at_once(pool: ThreadPoolExecutor, times: int, call: Callable[[], object]) -> None:
    for done in [pool.submit(call) for _ in range(times)]:
        done.result()


class _GuardedCallback:
    """What LoadGen calls. LoadGen is C++, which no exception may cross: the first one is stored, the remaining queries
    are answered at once so that the run ends, and _run raises it."""

    def __init__(self, answer: AnswerSamples) -> None:
        self._answer = answer
        self.error: BaseException | None = None

    def __call__(self, samples: Sequence[Any]) -> None:
        try:
            if self.error is None:
                self._answer(samples)
        except BaseException as error:  # raised by _run
            self.error = error
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    def spread(self, samples: Sequence[Any], pool: ThreadPoolExecutor, batch: int) -> None:
        batches = [pool.submit(self, samples[start : start + batch]) for start in range(0, len(samples), batch)]
        try:
            wait(batches)
        except BaseException as error:  # Ctrl-C: the workers see it and skip the rest
            self.error = error
            wait(batches)


def _run(
    settings: Any, image_count: int, callback: _GuardedCallback, issue: Callable[[Sequence[Any]], object] | None = None
) -> LoadGenLog:
    """Run LoadGen and return its detail log. issue: what it calls, if not `callback` itself. Raises what the engine
    raised."""
    with log_folder() as folder:
        output, logging = lg.LogOutputSettings(), lg.LogSettings()
        output.outdir, output.copy_summary_to_stdout = str(folder), False
        logging.log_output, logging.log_mode = output, lg.LoggingMode.EndOfTestOnly
        # 0.7 kB per query: a fast model's trace fills a container's 64 MB of /dev/shm and truncates the log
        logging.enable_trace = False
        system = lg.ConstructSUT(issue or callback, lambda: None)
        library = lg.ConstructQSL(image_count, image_count, lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(system, library, settings, logging, "")
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
        if callback.error is not None:
            raise callback.error
        return read_log(folder / "mlperf_log_detail.txt")


def read_log(path: Path) -> LoadGenLog:
    """LoadGen's detail log: the last value of each key, and `errors`: its error messages, in order.

    Some of its messages contain a bare line break inside their JSON string: an entry extends to the next marker.
    """
    log: LoadGenLog = {"errors": []}
    lenient = json.JSONDecoder(strict=False)
    for text in path.read_text(errors="replace").split(":::MLLOG ")[1:]:
        try:
            entry, _ = lenient.raw_decode(text)
        except json.JSONDecodeError as error:
            raise DeviceError(
                f"LoadGen's log cannot be read ({error.msg}): {text[:200]!r}; is there room for it?"
            ) from error
        value = " ".join(entry["value"].split()) if isinstance(entry["value"], str) else entry["value"]
        log[entry["key"]] = value
        if entry["metadata"]["is_error"]:
            log["errors"].append(value)
    return log


@contextmanager
def log_folder() -> Iterator[Path]:
    """A temporary folder for LoadGen's log: in memory rather than on disk, whose root may be read-only."""
    folders = [place for place in (os.environ.get("TMPDIR"), *LOG_FOLDERS) if place]
    for place in folders:
        try:
            folder = tempfile.TemporaryDirectory(prefix="loadgen-", dir=place)
        except OSError:
            continue
        with folder as name:
            yield Path(name)
        return
    raise DeviceError(
        f"nowhere to write LoadGen's log (tried {', '.join(folders)}); give the container a writable one: --tmpfs /tmp"
    )


def _settings(scenario: Any, seconds: float) -> Any:
    settings = lg.TestSettings()
    settings.scenario, settings.mode = scenario, lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1000)
    return settings


def _warm_up(calls: Sequence[Callable[[], object]]) -> list[int]:
    """Make calls in turn for 0.2 s, at least three, so that caches, clocks and kernels settle; the time of each, ns."""
    began = perf_counter_ns()
    times_ns: list[int] = []
    while len(times_ns) < 3 or perf_counter_ns() - began < WARM_UP_NS:
        before = perf_counter_ns()
        calls[len(times_ns) % len(calls)]()
        times_ns.append(perf_counter_ns() - before)
    return times_ns


def describe_invalid_run(log: LoadGenLog, queries: int | None) -> str:
    """Why the run is not valid; "" when it is."""
    reasons = [] if log["result_validity"] == "VALID" else [str(log.get("result_invalid_reason", ""))]
    if queries is not None and queries < QUERIES:
        reasons.append(f"{queries} queries; the 90th percentile needs {QUERIES}: run longer")
    text = "; ".join(reason.strip() for reason in [*reasons, *log["errors"]] if reason.strip())
    return text or ("; ".join(_unmet(log)) if reasons else "")


def _unmet(log: LoadGenLog) -> Iterator[str]:
    """What LoadGen found missing, where it calls a run invalid and gives no reason: a run of a second is short for its
    rules."""
    found = [words for key, words in UNMET.items() if log.get(key) is False]
    yield from found or ["too few queries for LoadGen's rules: run longer"]


def _disagreement(log: LoadGenLog, latencies_ms: Sequence[float]) -> str:
    ours, theirs = median(latencies_ms), log["result_50.00_percentile_latency_ns"] / 1e6
    if abs(theirs - ours) <= 0.05 + 0.05 * ours:
        return ""
    return f"median {ours:.3f} ms measured here, {theirs:.3f} ms by LoadGen: something else delayed this process"


def _scenario(name: str, latencies_ms: tuple[float, ...], rate: float, image_count: float, note: str) -> Scenario:
    return Scenario(name, latencies_ms, rate, image_count / rate if rate else 0.0, not note, note)
