"""The A/B gate: is a candidate release slower, bigger or less accurate than the one before it, on this device?

The baseline is run again next to the candidate, never read from a record, in rounds (rounds.py) that are evaluated as
they come (verdict.py), until every figure is settled or the time is up. A regression must show in a second run too.
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
    BUDGETS,
    IMAGE,
    MEMORY,
    METRICS,
    MIN_ROUNDS,
    MUST_BE_PROVEN,
    accuracy_finding,
    format_finding,
    overall_verdict,
    size_finding,
    timed_findings,
)
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import ANCHOR, BASELINE, CANDIDATE, Finding, Gate, GatedRelease, Round

logger = logging.getLogger(__name__)


# Rounds after which it is asked whether all is known: few looks, since each is one more chance to be wrong
LOOK_AFTER = (MIN_ROUNDS, 14, 20, 28, 40, 56, 80, 112, 160)
MINUTES = 5.0
ANCHOR_TIMES = 2  # so many times the margin may a release lie behind the anchor: small losses must not add up
THROTTLED_SHARE = 0.1  # of the rounds
OpenContainers = Callable[[Mapping[str, ArmContainer], int | None], AbstractContextManager[Mapping[str, SliceRunner]]]
NoiseFloors = Callable[[Fingerprint, int, str], Mapping[str, float]]


@dataclass(frozen=True)
class Arm:
    """A release that takes part; certify: digest of its held-out pictures."""

    image: str
    image_bytes: int
    bundle: str
    name: str
    release: str
    certify: str = ""


def no_noise_floors(_device: Fingerprint, _threads: int, _precision: str) -> Mapping[str, float]:
    """No device's noise is known."""
    return {}


@dataclass(frozen=True)
class GateOptions:
    """threads: of each engine; None: as many as the device allows. minutes: for each of at most two runs. budgets:
    changes allowed, as shares, by metric; across: facts that may differ (comparable.py). floors: what was learned of
    the noise of that device with so many threads and that precision, by metric. slower: the candidate, on purpose."""

    threads: int | None = None
    minutes: float = MINUTES
    budgets: Mapping[str, float] = field(default_factory=dict)
    across: tuple[str, ...] = ()
    floors: NoiseFloors = no_noise_floors
    slower: float = 0.0


@dataclass
class GateProgress:
    """What has been played so far: whoever interrupts a gate finds it here."""

    rounds: list[Round] = field(default_factory=list)
    confirming: list[Round] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.rounds) + len(self.confirming)


def compare_releases(
    arms: Mapping[str, Arm],
    terms: GateOptions,
    progress: GateProgress | None = None,
    open_containers: OpenContainers = ArmContainers,
) -> Gate:
    """Judge contestants[CANDIDATE] against the others: BASELINE, and ANCHOR where there is one. What the containers
    cannot do is DeviceError or DockerError; what is not to be compared, a verdict."""
    began, progress = monotonic(), progress or GateProgress()
    run = _GateRun(arms, terms, open_containers)
    findings: tuple[Finding, ...] = ()
    try:
        findings = run.findings(progress.rounds)
        suspects = [one for one in findings if one.verdict == "regressed" and one.p is not None]
        if any(one.metric != ACCURACY for one in suspects):
            logger.info(f"gate: {format_finding(suspects[0])}: measuring again")
            findings = confirm_findings(findings, run.findings(progress.confirming))
        verdict, reason = overall_verdict(findings)
        throttled = throttling_reason([*progress.rounds, *progress.confirming])
        known = [one for one in findings if one.verdict == "regressed" and one.low is None]  # by no clock
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
        slower=terms.slower,
    )


class _GateRun:
    """Plays a run, and a second one to confirm it. sides, device, threads: what the containers told of themselves."""

    def __init__(self, arms: Mapping[str, Arm], terms: GateOptions, open_containers: OpenContainers) -> None:
        self._contestants, self._terms, self._open_containers = arms, terms, open_containers
        self._floors = cache(terms.floors)  # asked at each look, and a ledger may be far away
        self.sides = {role: _gated_release(one) for role, one in arms.items()}
        self.device: Fingerprint | None = None
        self.threads = 0
        self.floors: Mapping[str, float] = {}

    @property
    def _others(self) -> list[str]:
        return [role for role in self._contestants if role != CANDIDATE]

    def findings(self, rounds: list[Round]) -> tuple[Finding, ...]:
        """Play until all is known or the time is up; `rounds` is filled as they come, and what is in it counts."""
        arms = {role: ArmContainer(one.image, state_volume(one.name)) for role, one in self._contestants.items()}
        open_containers = partial(self._open_containers, arms, self._terms.threads)
        session = ABSession(open_containers, self._terms.across, self._terms.slower)
        try:
            self._measure_rounds(session, rounds)
        finally:
            self._read_facts(session)
        return (*self._timed_findings(rounds), *self._fixed_findings(session))

    def _read_facts(self, session: ABSession) -> None:
        """What the containers told of themselves; not comparable or interrupted, it is still worth knowing."""
        if CANDIDATE not in session.facts:
            return
        mine = session.facts[CANDIDATE]
        self.device, self.threads = mine.device, mine.threads
        self.floors = self._floors(mine.device, mine.threads, mine.precision)
        self.sides = {
            role: _gated_release(one, session.facts.get(role), session.peak_memory_bytes.get(role, 0))
            for role, one in self._contestants.items()
        }

    def _measure_rounds(self, session: ABSession, rounds: list[Round]) -> None:
        end = monotonic() + 60 * self._terms.minutes
        while True:
            rounds.append(session.round(len(rounds)))
            late = len(rounds) >= LOOK_AFTER[-1] or (monotonic() > end and len(rounds) >= MIN_ROUNDS)
            if len(rounds) not in LOOK_AFTER and not late:
                continue
            self._read_facts(session)
            found = self._timed_findings(rounds)
            logger.info(f"  {len(rounds)} rounds: {'; '.join(map(format_interval, found))}")
            if late or not any(one.verdict == "inconclusive" and one.metric in MUST_BE_PROVEN for one in found):
                return

    def _timed_findings(self, rounds: Sequence[Round]) -> tuple[Finding, ...]:
        margins = {other: {one.name: self._margin(one.name, other) for one in METRICS} for other in self._others}
        return timed_findings(rounds, margins)

    def _margin(self, metric: str, against: str) -> float:
        """What the candidate's figure may be worse by."""
        allowed = max(self._terms.budgets.get(metric, BUDGETS[metric]), self.floors.get(metric, 0.0))
        return allowed * ANCHOR_TIMES if against == ANCHOR else allowed

    def _fixed_findings(self, session: ABSession) -> Iterator[Finding]:
        mine = self.sides[CANDIDATE]
        for other in self._others:
            theirs = self.sides[other]
            margin = partial(self._margin, against=other)
            yield size_finding(MEMORY, mine.peak_memory_bytes, theirs.peak_memory_bytes, other, margin(MEMORY))
            yield size_finding(IMAGE, mine.image_bytes, theirs.image_bytes, other, margin(IMAGE))
            yield accuracy_finding(mine, theirs, other, margin(ACCURACY), *self._count_disagreements(session, other))

    def _count_disagreements(self, session: ABSession, other: str) -> tuple[int | None, int | None]:
        """Held-out pictures that only the other has right, and only the candidate; None where they are others."""
        if not self._contestants[CANDIDATE].certify or (
            self._contestants[CANDIDATE].certify != self._contestants[other].certify
        ):
            return None, None
        pairs = list(zip(session.facts[CANDIDATE].right, session.facts[other].right, strict=True))
        return sum(theirs and not mine for mine, theirs in pairs), sum(mine and not theirs for mine, theirs in pairs)


def _gated_release(one: Arm, facts: ArmFacts | None = None, peak_memory_bytes: int = 0) -> GatedRelease:
    return GatedRelease(
        bundle=one.bundle,
        name=one.name,
        release=one.release,
        image=one.image,
        precision=facts.precision if facts else "",
        engine=facts.engine if facts else "",
        image_bytes=one.image_bytes,
        peak_memory_bytes=peak_memory_bytes,
        right=sum(facts.right) if facts and facts.right else None,
        images=len(facts.right) if facts else 0,
    )


def confirm_findings(first: Sequence[Finding], second: Sequence[Finding]) -> tuple[Finding, ...]:
    """The second run's findings, where only what regressed in both is regressed: what did in one is inconclusive."""
    before = {(one.metric, one.against): one for one in first}
    return tuple(_confirm(before[one.metric, one.against], one) for one in second)


def _confirm(first: Finding, second: Finding) -> Finding:
    if "regressed" not in (first.verdict, second.verdict) or second.p is None or second.metric == ACCURACY:
        return second
    if first.verdict == second.verdict:
        return msgspec.structs.replace(second, note="seen in both runs")
    note = f"seen in one of two runs: {100 * (first.change or 0):+.1f} % and {100 * (second.change or 0):+.1f} %"
    return msgspec.structs.replace(second, verdict="inconclusive", note=note)


def throttling_reason(rounds: Sequence[Round]) -> str:
    """Why the times of `rounds` mislead: a CPU quota that was used up; "" when none was."""
    hit = sum(any(one.throttled_periods.values()) for one in rounds)
    if hit <= THROTTLED_SHARE * len(rounds):
        return ""
    return f"the CPU quota was used up in {hit} of {len(rounds)} rounds; raise it, or use fewer threads"


def format_interval(finding: Finding) -> str:
    """`p50 +0.4 % (-0.2 to +1.1)`: for watching an interval narrow."""
    if finding.change is None or finding.low is None or finding.high is None:
        return f"{finding.metric} -"
    against = "" if finding.against == BASELINE else f" against the {finding.against}"
    ends = f"{100 * finding.low:+.1f} to {100 * finding.high:+.1f}"
    return f"{finding.metric}{against} {100 * finding.change:+.1f} % ({ends})"
