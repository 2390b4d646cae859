"""The A/B gate: is a candidate release slower, bigger or less accurate than the one before it, on this device?

The baseline is measured again alongside the candidate, never read from a record. Rounds (rounds.py) are evaluated as
they arrive (verdict.py) until every metric is decided or the time is up. A second run must confirm a regression.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from time import monotonic

import msgspec

from deploy.docker.sandbox import state_volume
from deploy.gate.rounds import ABSession, ArmContainer, ArmContainers, ArmFacts, NotComparableError, SliceRunner
from deploy.gate.verdict import (
    ACCURACY,
    ANSWERS,
    BUDGETS,
    IMAGE,
    MEMORY,
    METRICS,
    MIN_ROUNDS,
    MUST_BE_PROVEN,
    accuracy_finding,
    answers_finding,
    format_finding,
    overall_verdict,
    size_finding,
    timed_findings,
)
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import ANCHOR, BASELINE, CANDIDATE, Finding, Gate, GatedRelease, Round

logger = logging.getLogger(__name__)


# Interim analyses after these numbers of rounds. Few of them: each is one more chance of a wrong verdict.
ANALYZE_AFTER = (MIN_ROUNDS, 14, 20, 28, 40, 56, 80, 112, 160)
MINUTES = 5.0
ANCHOR_TIMES = 2  # a release may be worse than the anchor by this many margins: small losses must not add up
THROTTLED_SHARE = 0.1  # of the rounds
OpenContainers = Callable[[Mapping[str, ArmContainer], int | None], AbstractContextManager[Mapping[str, SliceRunner]]]
NoiseFloors = Callable[[Fingerprint, int, str], Mapping[str, float]]


@dataclass(frozen=True)
class Arm:
    """A release in the comparison. certify: the digest of its held-out images."""

    image: str
    image_bytes: int
    bundle: str
    name: str
    release: str
    certify: str = ""


def no_noise_floors(_device: Fingerprint, _threads: int, _precision: str) -> Mapping[str, float]:
    """For when no noise was measured on any device."""
    return {}


@dataclass(frozen=True)
class GateOptions:
    """threads: of each engine; None: as many as the device allows. minutes: the limit for each of at most two runs.
    budgets: allowed changes by metric, as shares. allowed_differences: device properties that may differ
    (comparability.py). floors: noise floors by metric, learned on the device for a thread count and precision. slower:
    how much the candidate is slowed down on purpose, as a share."""

    threads: int | None = None
    minutes: float = MINUTES
    budgets: Mapping[str, float] = field(default_factory=dict)
    allowed_differences: tuple[str, ...] = ()
    noise_floors: NoiseFloors = no_noise_floors
    slower: float = 0.0


@dataclass
class GateProgress:
    """The rounds measured so far, also after an interruption."""

    rounds: list[Round] = field(default_factory=list)
    confirming: list[Round] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.rounds) + len(self.confirming)


def compare_releases(
    arms: Mapping[str, Arm],
    options: GateOptions,
    progress: GateProgress | None = None,
    open_containers: OpenContainers = ArmContainers,
) -> Gate:
    """Compare arms[CANDIDATE] with arms[BASELINE], and with arms[ANCHOR] if there is one. `progress` is filled as
    rounds arrive. Releases that cannot be compared are a verdict; a failing container is DeviceError or DockerError."""
    began, progress = monotonic(), progress or GateProgress()
    run = _GateRun(arms, options, open_containers)
    findings: tuple[Finding, ...] = ()
    try:
        findings = run.findings(progress.rounds)
        suspects = [finding for finding in findings if finding.verdict == "regressed" and finding.p is not None]
        if any(suspect.metric != ACCURACY for suspect in suspects):
            logger.info(f"gate: {format_finding(suspects[0])}: measuring again")
            findings = confirm_findings(findings, run.findings(progress.confirming))
        verdict, reason = overall_verdict(findings)
        throttled = throttling_reason([*progress.rounds, *progress.confirming])
        known = [
            finding for finding in findings if finding.verdict == "regressed" and finding.low is None
        ]  # not timed, so throttling does not affect it
        if throttled and not known:
            verdict, reason = "inconclusive", throttled
    except NotComparableError as error:
        verdict, reason = "not comparable", str(error)
    return Gate(
        sides=run.sides,
        fingerprint=run.device,
        threads=run.threads,
        rounds=tuple(progress.rounds),
        confirming=tuple(progress.confirming),
        findings=findings,
        floors=dict(run.floors),
        verdict=verdict,
        reason=reason,
        judged_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=monotonic() - began,
        slower=options.slower,
    )


class _GateRun:
    """The first run and the confirming one. sides, device, threads: as the containers reported them."""

    def __init__(self, arms: Mapping[str, Arm], options: GateOptions, open_containers: OpenContainers) -> None:
        self._arms, self._options, self._open_containers = arms, options, open_containers
        self._floors = cache(options.noise_floors)  # read at each interim analysis, possibly from a remote database
        self.sides = {role: _gated_release(arm) for role, arm in arms.items()}
        self.device: Fingerprint | None = None
        self.threads = 0
        self.floors: Mapping[str, float] = {}

    @property
    def _others(self) -> list[str]:
        return [role for role in self._arms if role != CANDIDATE]

    def findings(self, rounds: list[Round]) -> tuple[Finding, ...]:
        """Measure until every metric is decided or the time is up. Rounds are appended to `rounds`."""
        arms = {role: ArmContainer(arm.image, state_volume(arm.name)) for role, arm in self._arms.items()}
        open_containers = partial(self._open_containers, arms, self._options.threads)
        session = ABSession(open_containers, self._options.allowed_differences, self._options.slower)
        try:
            self._measure_rounds(session, rounds)
        finally:
            self._read_facts(session)
        return (*self._timed_findings(rounds), *self._fixed_findings(session))

    def _read_facts(self, session: ABSession) -> None:
        """Take over what the containers reported, also after an interruption or when they cannot be compared."""
        if CANDIDATE not in session.facts:
            return
        mine = session.facts[CANDIDATE]
        self.device, self.threads = mine.device, mine.threads
        self.floors = self._floors(mine.device, mine.threads, mine.precision)
        self.sides = {
            role: _gated_release(arm, session.facts.get(role), session.peak_memory_bytes.get(role, 0))
            for role, arm in self._arms.items()
        }

    def _measure_rounds(self, session: ABSession, rounds: list[Round]) -> None:
        end = monotonic() + 60 * self._options.minutes
        while True:
            rounds.append(session.round(len(rounds)))
            finished = len(rounds) >= ANALYZE_AFTER[-1] or (monotonic() > end and len(rounds) >= MIN_ROUNDS)
            if len(rounds) not in ANALYZE_AFTER and not finished:
                continue
            self._read_facts(session)
            findings = self._timed_findings(rounds)
            logger.info(f"  {len(rounds)} rounds: {'; '.join(map(format_interval, findings))}")
            if finished or not any(
                finding.verdict == "inconclusive" and finding.metric in MUST_BE_PROVEN for finding in findings
            ):
                return

    def _timed_findings(self, rounds: Sequence[Round]) -> tuple[Finding, ...]:
        margins = {
            other: {metric.name: self._margin(metric.name, other) for metric in METRICS} for other in self._others
        }
        return timed_findings(rounds, margins)

    def _margin(self, metric: str, against: str) -> float:
        """How much worse the candidate may be, as a share."""
        allowed = max(self._options.budgets.get(metric, BUDGETS[metric]), self.floors.get(metric, 0.0))
        return allowed * ANCHOR_TIMES if against == ANCHOR else allowed

    def _fixed_findings(self, session: ABSession) -> Iterator[Finding]:
        mine = self.sides[CANDIDATE]
        for other in self._others:
            theirs = self.sides[other]
            margin = partial(self._margin, against=other)
            yield size_finding(MEMORY, mine.peak_memory_bytes, theirs.peak_memory_bytes, other, margin(MEMORY))
            yield size_finding(IMAGE, mine.image_bytes, theirs.image_bytes, other, margin(IMAGE))
            yield accuracy_finding(mine, theirs, other, margin(ACCURACY), *self._count_disagreements(session, other))
            if mine.accuracy is None or theirs.accuracy is None:
                answers = [session.facts[role].golden_answers for role in (CANDIDATE, other)]
                yield answers_finding(answers[0], answers[1], other, margin(ANSWERS))

    def _count_disagreements(self, session: ABSession, other: str) -> tuple[int | None, int | None]:
        """Held-out images that only `other` classifies correctly, and only the candidate; None if the images differ."""
        if not self._arms[CANDIDATE].certify or (self._arms[CANDIDATE].certify != self._arms[other].certify):
            return None, None
        pairs = list(zip(session.facts[CANDIDATE].right, session.facts[other].right, strict=True))
        return sum(theirs and not mine for mine, theirs in pairs), sum(mine and not theirs for mine, theirs in pairs)


def _gated_release(arm: Arm, facts: ArmFacts | None = None, peak_memory_bytes: int = 0) -> GatedRelease:
    return GatedRelease(
        bundle=arm.bundle,
        name=arm.name,
        release=arm.release,
        image=arm.image,
        precision=facts.precision if facts else "",
        engine=facts.engine if facts else "",
        image_bytes=arm.image_bytes,
        peak_memory_bytes=peak_memory_bytes,
        right=sum(facts.right) if facts and facts.right else None,
        images=len(facts.right) if facts else 0,
    )


def confirm_findings(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[Finding, ...]:
    """The second run's findings. A metric is regressed if it regressed in both runs, inconclusive if only in one."""
    before = {(finding.metric, finding.against): finding for finding in first}
    return tuple(_confirm(before[finding.metric, finding.against], finding) for finding in second)


def _confirm(first: Finding, second: Finding) -> Finding:
    if "regressed" not in (first.verdict, second.verdict) or second.p is None or second.metric == ACCURACY:
        return second
    if first.verdict == second.verdict:
        return msgspec.structs.replace(second, note="seen in both runs")
    note = f"seen in one of two runs: {100 * (first.change or 0):+.1f} % and {100 * (second.change or 0):+.1f} %"
    return msgspec.structs.replace(second, verdict="inconclusive", note=note)


def throttling_reason(rounds: Sequence[Round]) -> str:
    """Why the timings of `rounds` are unreliable: an exhausted CPU quota; "" if it was not."""
    hit = sum(any(measured.throttled_periods.values()) for measured in rounds)
    if hit <= THROTTLED_SHARE * len(rounds):
        return ""
    return f"the CPU quota was exhausted in {hit} of {len(rounds)} rounds; raise it, or use fewer threads"


def format_interval(finding: Finding) -> str:
    """`p50 +0.4 % (-0.2 to +1.1)`, for progress messages."""
    if finding.change is None or finding.low is None or finding.high is None:
        return f"{finding.metric} -"
    against = "" if finding.against == BASELINE else f" against the {finding.against}"
    ends = f"{100 * finding.low:+.1f} to {100 * finding.high:+.1f}"
    return f"{finding.metric}{against} {100 * finding.change:+.1f} % ({ends})"
