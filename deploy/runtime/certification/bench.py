"""How fast a candidate is on this device: LoadGen's scenarios, memory, energy, throttling, fingerprint.

Every latency is kept; nothing is evaluated here. The host measures the cold start: a container cannot see its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

import msgspec

from deploy.runtime.certification.loadgen import STREAMS, multi_stream, offline, server, single_stream
from deploy.runtime.device.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.device.energy import EnergyMeter
from deploy.runtime.device.gpu import GpuMonitor
from deploy.runtime.device.probe import fingerprint, missing_needs
from deploy.runtime.engines import Engine, GpuEngine, Settings, gpu_of, serving_engine
from toolchain.errors import DeviceError, UsageError
from toolchain.records.bundle import CERTIFY, SAMPLE, Bundle
from toolchain.records.gpu import GpuFigures
from toolchain.records.report import SAMPLES_FOR, Report, Scenario, percentiles
from toolchain.records.tensors import Array

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
BRIEF = ("SingleStream", "Offline")
TIMED, WARM = SAMPLES_FOR[99.0], 10
LIMIT_MS = 15.0  # Server: MLPerf's limit for ResNet-50
RATE_SHARES = (0.5, 0.25, 0.1)  # of the Offline rate, where none is given: the next where the one before is not valid
LONGEST = 10  # times the requested seconds that a scenario may take to be valid


def parse_scenarios(text: str) -> tuple[str, ...]:
    """`SingleStream,Server` as names, in LoadGen's order; `all` for all four. UsageError."""
    asked = SCENARIOS if text == "all" else tuple(text.split(","))
    unknown = [name for name in asked if name not in SCENARIOS]
    if unknown:
        raise UsageError(f"--scenarios={text}: no scenario '{unknown[0]}'; expected all, or of: {', '.join(SCENARIOS)}")
    return tuple(name for name in SCENARIOS if name in asked)


def run_bench(
    bundle: Bundle,
    threads: int,
    seconds: float,
    say: Callable[[str], None],
    precision: str = "",
    scenarios: Sequence[str] = BRIEF,
    rate: float | None = None,
) -> Report:
    """Measure `scenarios` of the candidate `precision` (empty: the chosen one), about `seconds` each; DeviceError where
    the bundle cannot run. rate: images per second in Server; None: half of the Offline rate.

    peak_memory_bytes is the whole process's: Python, the images, both engines one after the other, LoadGen.
    """
    device = fingerprint()
    lacking = missing_needs(bundle.manifest.needs, device)
    if lacking:
        raise DeviceError(lacking)
    before = throttled_periods()
    precision = precision or bundle.manifest.chosen
    found = measure_candidate(bundle, precision, threads, seconds, say, scenarios, rate)
    manifest = bundle.manifest
    return Report(
        bundle=bundle.digest,
        name=manifest.name,
        release=manifest.release,
        target=manifest.target,
        precision=precision,
        backend=manifest.candidate(precision).backend,
        engine=found.engine,
        threads=threads,
        fingerprint=device,
        scenarios=found.scenarios,
        peak_memory_bytes=peak_memory_bytes(),
        throttled_periods=throttled_periods() - before,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        gpu=found.gpu,
        joules_per_picture=found.joules_per_picture,
        energy=found.energy,
    )


def bundle_images(bundle: Bundle) -> Array:
    """The bundle's own images, never noise: an int8 model's answers, and some engines' speed, depend on them."""
    return bundle.read_arrays(CERTIFY)["images"] if bundle.has_file(CERTIFY) else bundle.read_arrays(SAMPLE)["inputs"]


class CandidateFigures(NamedTuple):
    """scenarios: LoadGen's results, in SCENARIOS' order; engine: its version; joules_per_picture: in Offline; energy:
    how it was measured, or why not; gpu: None for a CPU engine."""

    scenarios: tuple[Scenario, ...]
    engine: str
    joules_per_picture: float | None
    energy: str
    gpu: GpuFigures | None


def measure_candidate(
    bundle: Bundle,
    precision: str,
    threads: int,
    seconds: float,
    say: Callable[[str], None],
    scenarios: Sequence[str] = SCENARIOS,
    rate: float | None = None,
    only_valid: bool = False,
) -> CandidateFigures:
    """All `scenarios` of one candidate. only_valid: a scenario that cannot be valid in `seconds` runs as long as it
    needs, or is left out, and said, where that is too long."""
    pictures = bundle_images(bundle)
    found: dict[str, Scenario] = {}
    joules, on_gpu = None, None
    with ExitStack() as watching:
        with serving_engine(bundle, Settings(threads, "latency"), precision) as engine:
            version, used = engine.version, gpu_of(engine)
            meter, watch = EnergyMeter(used), watching.enter_context(GpuMonitor(used)) if used else None
            say(f"bench: {precision}, {version}, {threads} threads, {seconds:g} s a scenario: {', '.join(scenarios)}")
            found.update(_run_streams(engine, pictures, seconds, scenarios, only_valid, say))
            on_gpu = gpu_timings(engine, pictures)
        if {"Server", "Offline"} & set(scenarios):
            with serving_engine(bundle, Settings(threads, "throughput"), precision) as engine:
                if "Offline" in scenarios or rate is None:
                    before = meter.read()
                    found["Offline"] = offline(engine, pictures, seconds)
                    joules = meter.joules_since(before)
                if "Server" in scenarios:
                    shares = RATE_SHARES if only_valid else RATE_SHARES[:1]
                    rates = [rate] if rate else [share * found["Offline"].throughput_per_s for share in shares]
                    found["Server"] = _run_server(engine, pictures, seconds, rates)
    if only_valid and rate is None:
        for name in [name for name in found if not found[name].valid]:
            say(f"{name}: left out: {found.pop(name).note}; toolchain bench --seconds=60 may make it valid")
    kept = tuple(found[name] for name in SCENARIOS if name in scenarios and name in found)
    for scenario in kept:
        if not scenario.valid:
            say(f"{scenario.scenario}: not valid: {scenario.note}")
    offered = found.get("Offline")
    a_picture = joules / (offered.throughput_per_s * offered.seconds) if offered and joules else None
    seen = msgspec.structs.replace(watch.figures(), **on_gpu) if watch else None
    return CandidateFigures(kept, version, a_picture, meter.source, seen)


def _run_streams(
    engine: Engine,
    pictures: Array,
    seconds: float,
    scenarios: Sequence[str],
    only_valid: bool,
    say: Callable[[str], None],
) -> Iterator[tuple[str, Scenario]]:
    """SingleStream and MultiStream, where they are asked for."""
    longer_s = 0.0
    if "SingleStream" in scenarios:
        single = single_stream(engine, pictures, seconds)
        if only_valid and not single.valid:
            single = single_stream(engine, pictures, max(seconds, seconds_needed(single, SAMPLES_FOR[90.0])))
        longer_s = seconds_needed(single, STREAMS * TIMED) if only_valid else 0.0
        yield "SingleStream", single
    if "MultiStream" in scenarios and longer_s <= LONGEST * seconds:
        yield "MultiStream", multi_stream(engine, pictures, max(seconds, longer_s))
    elif "MultiStream" in scenarios:
        say(f"MultiStream: left out: {TIMED} queries would take {longer_s:.0f} s; toolchain bench runs it")


def _run_server(engine: Engine, pictures: Array, seconds: float, rates: Sequence[float]) -> Scenario:
    """At the first of `rates` that is valid, else at the last."""
    for rate in rates:
        found = server(engine, pictures, seconds, rate, LIMIT_MS)
        if found.valid:
            break
    return found


def seconds_needed(single: Scenario, images: int) -> float:
    """How long it takes to answer so many images one after the other, by what SingleStream took."""
    return 1.25 * images * median(single.latencies_ms) / 1e3


def gpu_timings(engine: Engine, pictures: Array) -> dict[str, Any]:
    """GpuFigures' timings of single images; empty for a CPU engine."""
    if not isinstance(engine, GpuEngine):
        return {}
    name = engine.inputs[0].name
    timings = [engine.measure({name: pictures[at % len(pictures)][None]}) for at in range(-WARM, TIMED)][WARM:]
    compute, whole = ([one[place] for one in timings] for place in (0, 1))
    return {"timed": TIMED, "compute_ms": percentiles(compute), "whole_ms": percentiles(whole)}
