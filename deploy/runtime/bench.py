"""How fast the chosen candidate is on this very device: LoadGen's scenarios, memory, throttling, fingerprint.

Every latency is kept; nothing is judged here. Cold start is the host's to tell: a container cannot see its own.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from deploy.runtime.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.engines import Settings, serving_engine
from deploy.runtime.loadgen import offline, single_stream
from deploy.runtime.probe import fingerprint, missing_needs
from toolchain.errors import DeviceError
from toolchain.records.bundle import CERTIFY, SAMPLE, Bundle
from toolchain.records.report import Report, Scenario
from toolchain.records.tensors import Array


def run_bench(bundle: Bundle, threads: int, seconds: float, say: Callable[[str], None]) -> Report:
    """Measure SingleStream and Offline, about `seconds` each; DeviceError where the bundle cannot run.

    peak_memory_bytes is this process's, all in: Python, the pictures, both engines one after the other, LoadGen.
    """
    device = fingerprint()
    lacking = missing_needs(bundle.manifest.needs, device)
    if lacking:
        raise DeviceError(lacking)
    before = throttled_periods()
    scenarios, version = _scenarios(bundle, threads, seconds, say)
    manifest = bundle.manifest
    return Report(
        bundle=bundle.digest,
        name=manifest.name,
        release=manifest.release,
        target=manifest.target,
        precision=manifest.chosen,
        backend=manifest.serving.backend,
        engine=version,
        threads=threads,
        fingerprint=device,
        scenarios=scenarios,
        peak_memory_bytes=peak_memory_bytes(),
        throttled_periods=throttled_periods() - before,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def real_pictures(bundle: Bundle) -> Array:
    """The bundle's own pictures, never noise: an INT8 net's answers, and some engines' speed, depend on them."""
    return bundle.arrays(CERTIFY)["images"] if bundle.holds(CERTIFY) else bundle.arrays(SAMPLE)["inputs"]


def _scenarios(
    bundle: Bundle, threads: int, seconds: float, say: Callable[[str], None]
) -> tuple[tuple[Scenario, ...], str]:
    pictures = real_pictures(bundle)
    with serving_engine(bundle, Settings(threads, "latency")) as engine:
        say(f"SingleStream: {bundle.manifest.chosen}, {engine.version}, {threads} threads, {seconds:g} s")
        alone, version = single_stream(engine, pictures, seconds), engine.version
    with serving_engine(bundle, Settings(threads, "throughput")) as engine:
        say(f"Offline: {engine.requests} requests at once, {seconds:g} s")
        together = offline(engine, pictures, seconds)
    for scenario in (alone, together):
        if not scenario.valid:
            say(f"{scenario.scenario}: not valid: {scenario.note}")
    return (alone, together), version
