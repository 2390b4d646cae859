"""The whole certificate of a bundle on this device: which candidate serves, whether its answers are correct, how fast
it is, what it needs. Needs no network.

checks.py and names.py have the checks, candidate_selection.py the choice, bench.py the measurements; signing.py signs,
state.py keeps.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

import msgspec

from deploy.runtime.certification.bench import measure_candidate
from deploy.runtime.certification.candidate_selection import select_candidate
from deploy.runtime.certification.checks import (
    DeviceEvaluation,
    check_needs,
    check_saturation,
    check_throttling,
    evaluate_candidate,
    golden_checks,
)
from deploy.runtime.certification.names import check_names
from deploy.runtime.certification.offered import preferred_here
from deploy.runtime.certification.wilson import wilson
from deploy.runtime.device.cgroup import peak_memory_bytes, throttled_periods
from deploy.runtime.device.probe import fingerprint
from deploy.runtime.engines import Settings, serving_engine
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import NOT_OPENED, Certificate, Check, summarize_scenarios

SECONDS = 1.0  # of each scenario


def run_certify(
    bundle: Bundle,
    threads: int,
    say: Callable[[str], None],
    seconds: float = SECONDS,
    rate: float | None = None,
    began: float | None = None,
) -> Certificate:
    """Unsigned. A failed check is recorded, not raised, and a bundle that answers wrongly is not measured. Where the
    device lacks what the bundle needs, no engine is opened: its code may not run here at all.

    seconds: of each scenario; rate: see run_bench; began: when this process started, by time.perf_counter.
    """
    needs = check_needs(bundle, fingerprint())
    empty = _empty_certificate(bundle, needs, threads)
    if not needs.passed:
        return empty
    before = throttled_periods()
    cold_start_s = None if began is None else _measure_cold_start(bundle, threads, began)
    decision = select_candidate(bundle, threads, say)
    found = decision.evaluation or _evaluate(bundle, threads, decision.precision)
    if found.correct is None:
        say("accuracy: not known: the bundle has no labelled images, so only numerics are checked")
    elif not found.failed and (named := _check_names(bundle, threads, decision.precision)):
        found = found._replace(checks=(*found.checks, named))
    right, images = found.correct or (0, 0)
    low, high = wilson(right, images) if images else (None, None)
    changes: dict[str, object] = {}
    if not found.failed:
        speed = measure_candidate(bundle, decision.precision, threads, seconds, say, rate=rate, only_valid=True)
        changes = {
            "scenarios": summarize_scenarios(speed.scenarios),
            "joules_per_picture": speed.joules_per_picture,
            "energy": speed.energy,
            "gpu": speed.gpu,
        }
    throttled = throttled_periods() - before
    made = msgspec.structs.replace(
        empty,
        precision=decision.precision,
        chosen_by=decision.chosen_by,
        candidates=decision.candidates,
        engine=found.engine,
        checks=(needs, *found.checks, check_throttling(throttled)),
        images=images,
        accuracy=found.accuracy,
        accuracy_low=low,
        accuracy_high=high,
        measure=bundle.manifest.measure,
        mean_average_precision=found.mean_average_precision,
        cold_start_s=cold_start_s,
        throttled_periods=throttled,
        peak_memory_bytes=peak_memory_bytes(),
        **changes,
    )
    if all(one.saturation is None for one in bundle.manifest.candidates):
        return made
    return msgspec.structs.replace(made, checks=(*made.checks, check_saturation(bundle, made)))


def _empty_certificate(bundle: Bundle, needs: Check, threads: int) -> Certificate:
    """What is known before any engine is opened."""
    manifest = bundle.manifest
    return Certificate(
        bundle=bundle.digest,
        name=manifest.name,
        release=manifest.release,
        precision=manifest.chosen,
        engine=NOT_OPENED,
        fingerprint=fingerprint(),
        checks=(needs,),
        images=0,
        accuracy=None,
        accuracy_low=None,
        accuracy_high=None,
        issued_at=datetime.now(UTC).isoformat(timespec="seconds"),
        threads=threads,
    )


def _measure_cold_start(bundle: Bundle, threads: int, began: float) -> float:
    """Seconds from the process's first line to the golden answers of what serves before anything is measured."""
    precision = preferred_here(bundle.manifest)
    with serving_engine(bundle, Settings(threads), precision) as engine:
        golden_checks(bundle, engine, precision)
    return perf_counter() - began


def _evaluate(bundle: Bundle, threads: int, precision: str) -> DeviceEvaluation:
    with serving_engine(bundle, Settings(threads), precision) as engine:
        return evaluate_candidate(bundle, engine, precision)


def _check_names(bundle: Bundle, threads: int, precision: str) -> Check | None:
    with serving_engine(bundle, Settings(threads), precision) as engine:
        return check_names(bundle, engine)
