"""The whole certificate of a bundle on this very device: which candidate serves, whether its answers are right, how
fast it is, what it needs. Needs no network.

certify.py has the checks, decide.py the choice, bench.py the measurements; signing.py signs, state.py keeps.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

import msgspec

from deploy.runtime.bench import measured
from deploy.runtime.certify import check_accuracy, check_needs, check_throttling, count_right, golden_checks
from deploy.runtime.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.decide import Decision, decide
from deploy.runtime.engines import Settings, serving_engine
from deploy.runtime.probe import fingerprint
from deploy.runtime.proportion import wilson
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate, Check, figures

SECONDS = 1.0  # of each scenario


def run_certify(
    bundle: Bundle,
    threads: int,
    say: Callable[[str], None],
    seconds: float = SECONDS,
    rate: float | None = None,
    began: float | None = None,
) -> Certificate:
    """Unsigned. A check that fails is told, not raised, and nothing is measured of a bundle that answers wrongly. Where
    the device lacks what the bundle needs, no engine is opened: its code may not run here at all.

    seconds: of each scenario; rate: see run_bench; began: when this process did, by time.perf_counter.
    """
    device = fingerprint()
    needs = check_needs(bundle, device)
    manifest = bundle.manifest
    empty = Certificate(
        bundle=bundle.digest,
        name=manifest.name,
        release=manifest.release,
        precision=manifest.chosen,
        engine="not opened",
        fingerprint=device,
        checks=(needs,),
        images=0,
        accuracy=None,
        accuracy_low=None,
        accuracy_high=None,
        issued_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=threads,
    )
    if not needs.passed:
        return empty
    before = throttled_periods()
    cold_start_s = None if began is None else _cold_start(bundle, threads, began)
    decision = decide(bundle, threads, say)
    checks, counted, version = _checked(bundle, threads, decision)
    right, images = counted or (0, 0)
    low, high = wilson(right, images) if images else (None, None)
    changes: dict[str, object] = {}
    if all(check.passed for check in checks):
        scenarios, _, (joules, source) = measured(bundle, decision.precision, threads, seconds, say, rate=rate)
        changes = {"scenarios": figures(scenarios), "joules_per_picture": joules, "energy": source}
    throttled = throttled_periods() - before
    return msgspec.structs.replace(
        empty,
        precision=decision.precision,
        chosen_by=decision.chosen_by,
        candidates=decision.candidates,
        engine=version,
        checks=(needs, *checks, check_throttling(throttled)),
        images=images,
        accuracy=right / images if images else None,
        accuracy_low=low,
        accuracy_high=high,
        cold_start_s=cold_start_s,
        throttled_periods=throttled,
        peak_memory_bytes=peak_memory_bytes(),
        **changes,
    )


def _cold_start(bundle: Bundle, threads: int, began: float) -> float:
    """Seconds from the process's first line to the golden answers of the build's choice."""
    with serving_engine(bundle, Settings(threads)) as engine:
        golden_checks(bundle, engine)
    return perf_counter() - began


def _checked(bundle: Bundle, threads: int, decision: Decision) -> tuple[tuple[Check, ...], tuple[int, int] | None, str]:
    """The checks of the candidate that is to serve, its right answers and pictures, and its engine."""
    with serving_engine(bundle, Settings(threads), decision.precision) as engine:
        checks = golden_checks(bundle, engine, decision.precision)
        counted = count_right(bundle, engine)
        built = bundle.manifest.certified(decision.precision)
        return (*checks, check_accuracy(counted, built)), counted, engine.version
