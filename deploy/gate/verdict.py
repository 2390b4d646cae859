"""Rounds of two releases -> which metrics regressed, with confidence and beyond their budget.

Pure functions; nothing is measured here. Each round yields one value, the log-ratio of the two releases in that round
(interleaved pairs, Bulej et al. 2020, arXiv 2001.05811): requests inside a round share the state of the machine and are
not independent. A metric is

    passed        if the interval of its change (the rounds' trimmed mean) lies below the margin (TOST: Schuirmann 1987)
    regressed     if it lies above the margin and a sign-flip test, corrected for the number of metrics, agrees
    inconclusive  otherwise: more rounds may decide

The margin is the user's budget or, if larger, the difference that noise makes here between identical releases.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import NamedTuple

from deploy.gate.statistics import (
    SAMPLES_FOR,
    bootstrap_trimmed,
    holm,
    mcnemar,
    median,
    percentile,
    sign_flip,
    trimmed_mean,
)
from toolchain.records.gate import CANDIDATE, Finding, GatedRelease, GateVerdict, Round

LEVEL = 0.98  # of the confidence interval: 1 % beyond each end
ALPHA = 0.01
MIN_ROUNDS = 10  # with fewer, the sign-flip test of several metrics can never reach ALPHA

LogRatio = Callable[[Round, str, str], float | None]


class Metric(NamedTuple):
    """A timed metric. worse(round, a, b): how much worse `a` is than `b`, as a log-ratio; None for too few samples.
    budget: the default allowed change. proven: to pass, it must be shown to be below the margin; otherwise it is enough
    that it is not shown to be above."""

    name: str
    budget: float
    proven: bool
    worse: LogRatio


def _percentile_ratio(percent: float) -> LogRatio:
    def worse(measured: Round, candidate: str, other: str) -> float | None:
        both = (
            percentile([ms for part in measured.latencies_ms[side] for ms in part], percent)
            for side in (candidate, other)
        )
        mine, theirs = both
        return log(mine / theirs) if mine and theirs else None

    return worse


def _median_ratio(measured: Round, candidate: str, other: str) -> float | None:
    """The median over pairs of slices of the log-ratio of their medians. The slices of a pair ran within milliseconds:
    a machine's speed changes within a second, and the median over all requests jumps between its levels."""
    pairs = zip(measured.latencies_ms[candidate], measured.latencies_ms[other], strict=True)
    whole = [pair for pair in pairs if min(map(len, pair)) >= SAMPLES_FOR[50.0]]
    return median([log(median(mine) / median(theirs)) for mine, theirs in whole]) if whole else None


def _throughput_ratio(measured: Round, candidate: str, other: str) -> float | None:
    mine, theirs = (measured.throughput_per_s.get(side) for side in (candidate, other))
    if not mine or not theirs:
        return None
    return median([log(other / own) for own, other in zip(mine, theirs, strict=True)])


def _energy_ratio(measured: Round, candidate: str, other: str) -> float | None:
    mine, theirs = measured.joules.get(candidate), measured.joules.get(other)
    return log(mine / theirs) if mine and theirs else None


# Tail latencies depend on whatever else the machine does, so "no worse" can seldom be shown for them; a release with
# pauses is still detected.
METRICS = (
    Metric("p50", 0.02, True, _median_ratio),
    Metric("p90", 0.05, False, _percentile_ratio(90.0)),
    Metric("p99", 0.10, False, _percentile_ratio(99.0)),
    Metric("throughput", 0.02, True, _throughput_ratio),
    Metric("energy", 0.05, False, _energy_ratio),
)
MUST_BE_PROVEN = frozenset(metric.name for metric in METRICS if metric.proven)
MEMORY, IMAGE, ACCURACY, ANSWERS = "memory", "image size", "accuracy", "answers"
# of 16 golden images, 2 may get another answer: where two classes are level, rounding decides
BUDGETS = {metric.name: metric.budget for metric in METRICS}
BUDGETS |= {MEMORY: 0.10, IMAGE: 0.10, ACCURACY: 0.005, ANSWERS: 0.125}
GoldenAnswers = tuple[Sequence[int], str]  # the class of each golden image, and those images' digest


def timed_findings(rounds: Sequence[Round], margins: Mapping[str, Mapping[str, float]]) -> tuple[Finding, ...]:
    """A finding for each timed metric against each release in `margins` (shares, by metric)."""
    keys = [(metric, other) for other in margins for metric in METRICS]
    values = [_values(rounds, metric, other) for metric, other in keys]
    beyond = [margins[other][metric.name] for metric, other in keys]
    known = [place for place, value in enumerate(values) if value]
    tests = [sign_flip([value - log(1 + beyond[place]) for value in values[place]]) for place in known]
    adjusted = dict(zip(known, holm(tests), strict=True))
    return tuple(
        _timed_finding(metric.name, other, values[place], beyond[place], adjusted[place])
        if place in adjusted
        else _unknown(metric.name, other, rounds)
        for place, (metric, other) in enumerate(keys)
    )


def _values(rounds: Sequence[Round], metric: Metric, other: str) -> list[float]:
    """One value per round; empty if a round lacks it or there are fewer than two."""
    values = [metric.worse(measured, CANDIDATE, other) for measured in rounds]
    whole = [value for value in values if value is not None]
    return whole if len(whole) == len(values) >= 2 else []


def _timed_finding(name: str, other: str, values: list[float], margin: float, p: float) -> Finding:
    low, high = (exp(end) - 1 for end in bootstrap_trimmed(values, LEVEL))
    verdict: GateVerdict = "inconclusive"
    if high < margin:
        verdict = "passed"
    elif low > margin and p < ALPHA:
        verdict = "regressed"
    return Finding(name, other, verdict, exp(trimmed_mean(values)) - 1, low, high, margin, p)


def _unknown(name: str, other: str, rounds: Sequence[Round]) -> Finding:
    percent = {"p50": 50.0, "p90": 90.0, "p99": 99.0}.get(name)
    if percent is None:
        note = "cannot be read here" if name == "energy" else "a container did not report it"
        return Finding(name, other, "", note=note)
    count = min((sum(map(len, measured.latencies_ms[other])) for measured in rounds), default=0)
    return Finding(name, other, "", note=f"{count} requests per round; {name} needs {SAMPLES_FOR[percent]}")


def size_finding(name: str, candidate: int, other: int, against: str, margin: float) -> Finding:
    """A finding on a size in bytes, which is known exactly; 0: unknown."""
    if not candidate or not other:
        return Finding(name, against, "", margin=margin, note="cannot be read here")
    change = candidate / other - 1
    return Finding(name, against, "regressed" if change > margin else "passed", change, margin=margin)


def accuracy_finding(
    candidate: GatedRelease, other: GatedRelease, against: str, margin: float, lost: int | None, won: int | None
) -> Finding:
    """A finding on the accuracy on held-out images, measured on this device. lost, won: the number of images that only
    `other`, or only the candidate, classifies correctly; None if the images differ, and then no test is made."""
    mine, theirs = candidate.accuracy, other.accuracy
    if mine is None or theirs is None:
        return Finding(ACCURACY, against, "", margin=margin, note="not known: no labelled images in both bundles")
    change = theirs - mine
    if change <= margin:
        return Finding(ACCURACY, against, "passed", change, margin=margin)
    if lost is None or won is None:
        return Finding(ACCURACY, against, "inconclusive", change, margin=margin, note="measured on different images")
    p = mcnemar(lost, won)
    note = f"{lost} images lost, {won} won"
    return Finding(
        ACCURACY, against, "regressed" if p < ALPHA else "inconclusive", change, margin=margin, p=p, note=note
    )


def answers_finding(candidate: GoldenAnswers, other: GoldenAnswers, against: str, margin: float) -> Finding:
    """A finding on the answers to the same golden images, where no labels say which are right: too many others are no
    regression, and no pass either."""
    (mine, images), (theirs, other_images) = candidate, other
    if not mine or not theirs:
        note = "a container did not report them; rebuild its image: toolchain image"
        return Finding(ANSWERS, against, "", margin=margin, note=note)
    if images != other_images:
        return Finding(ANSWERS, against, "", margin=margin, note="the bundles hold different golden images")
    changed = sum(one != two for one, two in zip(mine, theirs, strict=True))
    change = changed / len(mine)
    note = f"{changed} of {len(mine)} golden images get another answer; without labels, nobody knows which is right"
    return Finding(ANSWERS, against, "passed" if change <= margin else "inconclusive", change, margin=margin, note=note)


def overall_verdict(findings: Sequence[Finding]) -> tuple[GateVerdict, str]:
    """The overall verdict and its reason in a sentence."""
    for verdict in ("regressed", "inconclusive"):
        decisive = [
            finding
            for finding in findings
            if finding.verdict == verdict and (verdict == "regressed" or _must_pass(finding))
        ]
        if decisive:
            return verdict, "; ".join(map(format_finding, decisive))
    needed = {*MUST_BE_PROVEN, ANSWERS}
    unknown = [finding for finding in findings if finding.metric in needed and not finding.verdict]
    if unknown:
        return "inconclusive", "; ".join(f"{finding.metric}: {finding.note}" for finding in unknown)
    without_accuracy = any(finding.metric == ANSWERS for finding in findings)
    limits = "; accuracy is not known: only answers were compared" if without_accuracy else ""
    return "passed", f"no metric regressed beyond its budget{limits}"


def _must_pass(finding: Finding) -> bool:
    return finding.metric in MUST_BE_PROVEN or finding.metric in (ACCURACY, ANSWERS)


def format_finding(finding: Finding) -> str:
    """`p50 is 6.1 % worse than the baseline (98 % CI +5.2 to +7.0 %); the budget is 3.0 %`."""
    if finding.change is None or finding.metric == ANSWERS:
        return f"{finding.metric}: {finding.note}"
    unit = "points" if finding.metric == ACCURACY else "%"
    way = "worse" if finding.change >= 0 else "better"
    interval = (
        f" ({100 * LEVEL:.0f} % CI {100 * finding.low:+.1f} to {100 * finding.high:+.1f} %)"
        if finding.low is not None and finding.high is not None
        else ""
    )
    return (
        f"{finding.metric} is {abs(100 * finding.change):.1f} {unit} {way} than the {finding.against}{interval}; "
        f"the budget is {100 * finding.margin:.1f} {unit}"
    )
