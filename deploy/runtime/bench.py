"""How fast a candidate is on this very device: LoadGen's scenarios, memory, energy, throttling, fingerprint.

Every latency is kept; nothing is judged here. Cold start is the host's to tell: a container cannot see its own.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from deploy.runtime.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.energy import Meter
from deploy.runtime.engines import Settings, serving_engine
from deploy.runtime.loadgen import multi_stream, offline, server, single_stream
from deploy.runtime.probe import fingerprint, missing_needs
from toolchain.errors import DeviceError, UsageError
from toolchain.records.bundle import CERTIFY, SAMPLE, Bundle
from toolchain.records.report import Report, Scenario
from toolchain.records.tensors import Array

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
BRIEF = ("SingleStream", "Offline")
LIMIT_MS = 15.0  # Server: MLPerf's for ResNet-50
RATE_SHARE = 0.5  # of Offline's, where no rate is given


def checked_scenarios(text: str) -> tuple[str, ...]:
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
    the bundle cannot run. rate: pictures a second in Server; None: half of Offline's.

    peak_memory_bytes is this process's, all in: Python, the pictures, both engines one after the other, LoadGen.
    """
    device = fingerprint()
    lacking = missing_needs(bundle.manifest.needs, device)
    if lacking:
        raise DeviceError(lacking)
    before = throttled_periods()
    precision = precision or bundle.manifest.chosen
    found, version, _ = measured(bundle, precision, threads, seconds, say, scenarios, rate)
    manifest = bundle.manifest
    return Report(
        bundle=bundle.digest,
        name=manifest.name,
        release=manifest.release,
        target=manifest.target,
        precision=precision,
        backend=manifest.candidate(precision).backend,
        engine=version,
        threads=threads,
        fingerprint=device,
        scenarios=found,
        peak_memory_bytes=peak_memory_bytes(),
        throttled_periods=throttled_periods() - before,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def real_pictures(bundle: Bundle) -> Array:
    """The bundle's own pictures, never noise: an INT8 net's answers, and some engines' speed, depend on them."""
    return bundle.arrays(CERTIFY)["images"] if bundle.holds(CERTIFY) else bundle.arrays(SAMPLE)["inputs"]


def measured(
    bundle: Bundle,
    precision: str,
    threads: int,
    seconds: float,
    say: Callable[[str], None],
    scenarios: Sequence[str] = SCENARIOS,
    rate: float | None = None,
) -> tuple[tuple[Scenario, ...], str, tuple[float | None, str]]:
    """(what LoadGen found, in SCENARIOS' order; the engine's version; joules a picture in Offline, and by what)."""
    pictures = real_pictures(bundle)
    found: dict[str, Scenario] = {}
    meter, joules = Meter(), None
    with serving_engine(bundle, Settings(threads, "latency"), precision) as engine:
        version = engine.version
        say(f"bench: {precision}, {version}, {threads} threads, {seconds:g} s a scenario: {', '.join(scenarios)}")
        if "SingleStream" in scenarios:
            found["SingleStream"] = single_stream(engine, pictures, seconds)
        if "MultiStream" in scenarios:
            found["MultiStream"] = multi_stream(engine, pictures, seconds)
    if {"Server", "Offline"} & set(scenarios):
        with serving_engine(bundle, Settings(threads, "throughput"), precision) as engine:
            if "Offline" in scenarios or rate is None:
                before = meter.read()
                found["Offline"] = offline(engine, pictures, seconds)
                joules = meter.joules(before)
            if "Server" in scenarios:
                asked = rate or RATE_SHARE * found["Offline"].throughput_per_s
                found["Server"] = server(engine, pictures, seconds, asked, LIMIT_MS)
    kept = tuple(found[name] for name in SCENARIOS if name in scenarios)
    for scenario in kept:
        if not scenario.valid:
            say(f"{scenario.scenario}: not valid: {scenario.note}")
    offered = found.get("Offline")
    a_picture = joules / (offered.throughput_per_s * offered.seconds) if offered and joules else None
    return kept, version, (a_picture, meter.source)
