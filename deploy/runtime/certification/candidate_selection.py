"""Selects the bundle's candidate that serves on this device: the fastest that is as accurate here as on the build
machine. A CPU with AMX may select another one than a build machine without.

The candidates are measured interleaved, in short slices, so that the machine's drift favours none. Knows no records
beyond the bundle's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Literal, NamedTuple

from deploy.runtime.certification.bench import bundle_images
from deploy.runtime.certification.checks import DeviceEvaluation, evaluate_candidate
from deploy.runtime.certification.interleaved import time_slice
from deploy.runtime.certification.offered import meets_accuracy_threshold
from deploy.runtime.engines import Engine, Settings, serving_engine
from deploy.runtime.engines.saturation import saturation_refusal
from toolchain.errors import DeviceError
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import CandidateResult
from toolchain.records.manifest import Candidate, Manifest

ROUNDS, SLICE_S, QUERIES = 12, 0.02, (3, 100)
MAX_LATENCY_RATIO = 0.97  # of the build's choice; a smaller difference counts as none, as in the build
CANNOT_RUN = "cannot run here: "  # how the build begins the verdict of a candidate that it could not open
MIN_ROUNDS_WON = 10  # of 12: one-sided sign test, p = 0.019


class DeviceChoice(NamedTuple):
    """candidates: the results, in the bundle's order; evaluation: that of `precision`. Both are empty where the build's
    choice stands without a measurement."""

    precision: str
    chosen_by: Literal["build", "device"]
    candidates: tuple[CandidateResult, ...] = ()
    evaluation: DeviceEvaluation | None = None


def select_candidate(bundle: Bundle, threads: int, say: Callable[[str], None]) -> DeviceChoice:
    """Measure the candidates, unless the recipe pins the build's choice or no other one meets the accuracy
    threshold."""
    manifest = bundle.manifest
    able = [one for one in manifest.candidates if meets_accuracy_threshold(manifest, one)]
    if manifest.choose == "build" or len(able) < 2:
        return DeviceChoice(manifest.chosen, "build")
    say(f"candidates: {', '.join(one.precision for one in able)}, interleaved on this device")
    with ExitStack() as opened:
        engines: dict[str, Engine] = {}
        refused: dict[str, str] = {}
        answered: dict[str, DeviceEvaluation] = {}
        for one in able:
            if reason := saturation_refusal(one):
                refused[one.precision] = f"not offered: {reason}"
                answered[one.precision] = _measure_saturation(bundle, threads, one)
                continue
            try:
                engine = opened.enter_context(serving_engine(bundle, Settings(threads), one.precision))
            except DeviceError as error:
                refused[one.precision] = f"refused: {error}"
                continue
            answered[one.precision] = found = evaluate_candidate(bundle, engine, one.precision)
            failed = [f"{check.name}: {check.found}, expected {check.expected}" for check in found.failed]
            if failed:
                refused[one.precision] = f"refused: {failed[0]}"
            else:
                engines[one.precision] = engine
        rounds = _measure_rounds(bundle, engines)
    precision = fastest(rounds, manifest.chosen)
    accuracies = {name: found.accuracy for name, found in answered.items()}
    tried = tuple(_trial_record(one, rounds, accuracies, refused, precision, manifest) for one in manifest.candidates)
    return DeviceChoice(precision, "device", tried, answered.get(precision))


def _measure_saturation(bundle: Bundle, threads: int, one: Candidate) -> DeviceEvaluation:
    """What a candidate answers here that is not offered: it confirms the prediction, or contradicts it."""
    with serving_engine(bundle, Settings(threads, saturating=True), one.precision) as engine:
        return evaluate_candidate(bundle, engine, one.precision)


def _measure_rounds(bundle: Bundle, engines: dict[str, Engine]) -> dict[str, list[float]]:
    """The median ms of each engine in each round."""
    pictures = bundle_images(bundle)
    typical = {name: median(time_slice(engine, pictures, 8)) for name, engine in engines.items()}
    queries = max(QUERIES[0], min(QUERIES[1], round(SLICE_S * 1000 / max([*typical.values(), 1e-6]))))
    rounds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS):
        for name in list(engines)[:: 1 if number % 2 == 0 else -1]:
            rounds[name].append(median(time_slice(engines[name], pictures, queries)))
    return rounds


def fastest(rounds: dict[str, list[float]], built: str) -> str:
    """The build's choice unless another one is clearly faster here; the fastest where the build's choice may not serve.
    Also `built` where none may: the certificate then records its failure."""
    typical = {name: median(found) for name, found in rounds.items()}
    if built not in rounds:
        return min(typical, key=lambda name: typical[name], default=built)
    better = [name for name in rounds if is_clearly_faster(rounds[name], rounds[built])]
    return min(better, key=lambda name: typical[name], default=built)


def is_clearly_faster(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return median(ratios) < MAX_LATENCY_RATIO and sum(ratio < 1 for ratio in ratios) >= MIN_ROUNDS_WON


def _trial_record(
    one: Candidate,
    rounds: dict[str, list[float]],
    accuracies: Mapping[str, float | None],
    refused: dict[str, str],
    precision: str,
    manifest: Manifest,
) -> CandidateResult:
    name = one.precision
    if not meets_accuracy_threshold(manifest, one):
        return CandidateResult(name, None, None, f"not tried; on the build machine: {_past_verdict(one.verdict)}")
    if name in refused:
        return CandidateResult(name, None, accuracies.get(name), refused[name])
    latency_ms = median(rounds[name])
    if name == precision:
        verdict = "serves: the build's choice, and none is clearly faster here"
        if name != manifest.chosen:
            verdict = f"serves: faster here than the build's choice, {manifest.chosen}"
    else:
        verdict = "slower here, or no faster beyond noise"
    return CandidateResult(name, latency_ms, accuracies.get(name), verdict)


def _past_verdict(verdict: str) -> str:
    """The build machine's verdict, on another machine: what "here" and "this CPU" were there, without the advice on
    what to serve there."""
    if verdict.startswith(CANNOT_RUN):
        reason, _, _ = verdict.removeprefix(CANNOT_RUN).partition("; serve ")
        return f"could not run: {reason.replace('this CPU', 'its CPU').replace('this GPU', 'its GPU')}"
    return verdict.replace("not timed here", "not timed") or "below the accuracy threshold"
