"""Measures rounds of releases on one device, each release in its own container. Gives no verdict.

A round repeats A B B A (A B C C B A with an anchor), every other time in reverse, so that neither drift nor the order
favours a release. Memory placement fixes the speed of a process for its lifetime, thread placement for seconds; neither
is a property of the release (docs/lab.md). Therefore every round uses new containers, engine threads are pinned, and
slices are short and many. Latency and throughput are measured one after the other: their engines have separate threads,
which would displace each other from their cores.
"""

import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from types import TracebackType
from typing import Literal, Protocol

from deploy.containers.run_once import interleaved_command, remove_container
from deploy.gate.comparability import mismatches
from deploy.gate.interleaved import ContainerRunner
from deploy.gate.statistics import median
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE, Round
from toolchain.records.interleaved import THROUGHPUT_BATCH, WARMUP_CALLS, SliceRequest, SliceResult

TURNS, ROUND_S = (4, 64), 2.5  # repetitions of A B B A per round: as many as fit into ROUND_S
RATE_PART = 2  # this many times fewer throughput slices: they vary less
SLICE_S = 0.004
QUERIES = (8, 64)  # the minimum is what a median needs; all slices of a shortest round together allow a p90
RATE_S = 0.01
BATCHES = (2, 50)
WARM_S, WARM_QUERIES = 0.2, (8, 1000)  # a new process is slow at first: page faults, CPU clock, scheduler
END_S = 10
CLOCK_SLACK, CLOCK_SHARE, CLOCK_SLICES = 1.02, 0.25, 32


class NotComparableError(Exception):
    """The measurements cannot be compared, for the reason in the message. The gate turns it into its verdict."""


class SliceRunner(Protocol):
    """Runs slices: a container of a release."""

    def run_slice(self, index: SliceRequest) -> SliceResult: ...


@dataclass(frozen=True)
class ArmContainer:
    """A release to run: its image, and the volume that records which candidate this device serves."""

    image: str
    volume: str


@dataclass(frozen=True)
class ArmFacts:
    """What a release reported before the first round. precision: the candidate that this device serves; right: which of
    its held-out images it classified correctly; golden_answers: the class of each golden image, and those images'
    digest."""

    device: Fingerprint
    threads: int
    engine: str
    precision: str
    right: tuple[bool, ...]
    golden_answers: tuple[tuple[int, ...], str] = ((), "")


class ArmContainers:
    """One container for each arm, removed when the block ends, however it ends."""

    def __init__(self, arms: Mapping[str, ArmContainer], threads: int | None) -> None:
        self._arms, self._threads = arms, threads
        self._stack = ExitStack()

    def __enter__(self) -> Mapping[str, SliceRunner]:
        with self._stack:
            runners: dict[str, ContainerRunner] = {}
            for role, arm in self._arms.items():
                name = f"edge-gate-{role}-{uuid.uuid4().hex[:8]}"
                command = interleaved_command(arm.image, self._threads, name=name, volume=arm.volume)
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                self._stack.callback(_stop, process, command[0], name)
                runners[role] = ContainerRunner(process, "", role)
            for runner in runners.values():  # runs first: all containers are asked to end before any is waited for
                self._stack.callback(_close_stdin, runner.process)
            self._stack = self._stack.pop_all()
            return runners

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _close_stdin(process: "subprocess.Popen[str]") -> None:
    """The container exits at the end of its input."""
    with suppress(OSError, ValueError):
        if process.stdin:
            process.stdin.close()


def _stop(process: "subprocess.Popen[str]", client: str, name: str) -> None:
    """A container that does not exit is removed."""
    _close_stdin(process)
    try:
        process.wait(timeout=END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
    finally:
        if process.poll() != 0:
            remove_container(client, name)
        if process.stdout:
            process.stdout.close()


class ABSession:
    """Rounds between releases, by role. open_containers: a context manager with a new container of each release.
    allowed_differences: device properties that may differ. slower: how much the candidate is slowed down on purpose.

    facts, peak_memory_bytes: as the containers reported them; empty before the first round."""

    def __init__(
        self,
        open_containers: Callable[[], AbstractContextManager[Mapping[str, SliceRunner]]],
        allowed_differences: Sequence[str] = (),
        slower: float = 0.0,
    ) -> None:
        self._open_containers, self._slower = open_containers, slower
        self._allowed_differences = allowed_differences
        self._queries = self._batches = self._turns = 0
        self._overheads: dict[str, list[tuple[float, float]]] = {}
        self.peak_memory_bytes: dict[str, int] = {}
        self.facts: dict[str, ArmFacts] = {}

    def round(self, number: int) -> Round:
        """Measure round `number` (from 0) in new containers. NotComparableError, with every reason, when device
        properties differ, samples are missing, or a clock cannot be right."""
        with self._open_containers() as runners:
            if not self.facts:
                self.facts = {role: self._read_facts(role, runner) for role, runner in runners.items()}
                self._check_comparable()
                self._overheads = {role: [] for role in runners}
            with ThreadPoolExecutor(len(runners)) as pool:
                list(pool.map(self._warm_up, runners, runners.values()))
            if not self._turns:
                self._calibrate(runners)
            return self._measure_round(runners, number)

    def _read_facts(self, role: str, runner: SliceRunner) -> ArmFacts:
        result = runner.run_slice(SliceRequest("", 1, "pictures"))
        if result.device is None:
            raise NotComparableError(f"the {role} does not report its device; rebuild its image: toolchain image")
        return ArmFacts(
            result.device,
            result.threads,
            result.engine,
            result.precision,
            result.right,
            (result.answers, result.inputs),
        )

    def _check_comparable(self) -> None:
        mine = self.facts[CANDIDATE]
        for role, other in self.facts.items():
            differences = list(
                mismatches(mine.device, other.device, (mine.engine, other.engine), self._allowed_differences)
            )
            if differences:
                raise NotComparableError(f"candidate against {role}: {'; '.join(differences)}")

    def _warm_up(self, role: str, runner: SliceRunner) -> None:
        """Warm up both engines of a new container, in parallel with the other containers."""
        first_ms = self._typical_ms(role, runner)
        queries = _clamp(WARM_S * 1000 / max(first_ms, 1e-6), *WARM_QUERIES)
        self._run_slice(role, runner, "latency", queries)
        self._run_slice(role, runner, "throughput", BATCHES[0])

    def _typical_ms(self, role: str, runner: SliceRunner) -> float:
        return median(self._run_slice(role, runner, "latency", QUERIES[0]).latencies_ms or (0.0,))

    def _calibrate(self, runners: Mapping[str, SliceRunner]) -> None:
        """Choose the requests per slice, the same for all releases and rounds: the slowest release takes about SLICE_S.
        Measured on warm containers one after the other, so that nothing else runs meanwhile."""
        slowest_ms, slowest_per_s = 1e-6, float("inf")
        for role, runner in runners.items():
            slowest_ms = max(slowest_ms, self._typical_ms(role, runner))
            rate = self._run_slice(role, runner, "throughput", BATCHES[0]).throughput_per_s
            slowest_per_s = min(slowest_per_s, max(rate or 0.0, 1e-6))
        self._queries = _clamp(SLICE_S * 1000 / slowest_ms, *QUERIES)
        self._batches = _clamp(RATE_S * slowest_per_s / THROUGHPUT_BATCH, *BATCHES)
        batches_s = self._batches * THROUGHPUT_BATCH / slowest_per_s / RATE_PART
        slices_s = (self._queries + WARMUP_CALLS) * slowest_ms / 1000 + batches_s
        self._turns = _clamp(ROUND_S / (2 * len(runners) * slices_s), *TURNS)

    def _measure_round(self, runners: Mapping[str, SliceRunner], number: int) -> Round:
        roles = [BASELINE, CANDIDATE, *(role for role in runners if role not in (BASELINE, CANDIDATE))]
        latencies: dict[str, list[tuple[float, ...]]] = {role: [] for role in roles}
        rates: dict[str, list[float]] = {role: [] for role in roles}
        throttled, joules = dict.fromkeys(roles, 0), dict.fromkeys(roles, 0.0)
        orders = [roles if (number + index) % 2 == 0 else roles[::-1] for index in range(self._turns)]
        turns = [(*order, *order[::-1]) for order in orders]
        for role in chain(*turns):
            latency = self._run_latency_slice(role, runners[role])
            latencies[role].append(latency.latencies_ms)
            throttled[role] += latency.throttled_periods
        for role in chain(*turns[: self._turns // RATE_PART]):
            batches = self._run_slice(role, runners[role], "throughput", self._batches)
            rates[role].append(batches.throughput_per_s or 0.0)
            throttled[role] += batches.throttled_periods
            joules[role] += batches.joules or 0.0
            self.peak_memory_bytes[role] = max(batches.peak_memory_bytes, self.peak_memory_bytes.get(role, 0))
        return Round(
            {role: tuple(parts) for role, parts in latencies.items()},
            {role: tuple(parts) for role, parts in rates.items()},
            throttled,
            {
                role: total / (len(rates[role]) * self._batches * THROUGHPUT_BATCH)
                for role, total in joules.items()
                if total
            },
        )

    def _run_slice(
        self, role: str, runner: SliceRunner, what: Literal["latency", "throughput"], queries: int
    ) -> SliceResult:
        slower = self._slower if role == CANDIDATE else 0.0
        return runner.run_slice(SliceRequest(self.facts[role].precision, queries, what, slower, pinned=True))

    def _run_latency_slice(self, role: str, runner: SliceRunner) -> SliceResult:
        began = perf_counter()
        result = self._run_slice(role, runner, "latency", self._queries)
        took_s = perf_counter() - began
        if len(result.latencies_ms) != self._queries:
            raise NotComparableError(f"the {role} answered {len(result.latencies_ms)} of {self._queries} requests")
        self._check_clock(role, sum(result.latencies_ms) / 1000, took_s)
        return result

    def _check_clock(self, role: str, reported_s: float, took_s: float) -> None:
        """Reported latencies must fit into the wall time of their slice; the remainder (the container round trip)
        must be about the same for all releases."""
        if reported_s > CLOCK_SLACK * took_s:
            raise NotComparableError(
                f"{role}: its clock is wrong: it reported {reported_s:.3f} s of requests within {took_s:.3f} s of wall "
                "time"
            )
        self._overheads[role].append((took_s, took_s - reported_s * (1 + WARMUP_CALLS / self._queries)))
        if min(map(len, self._overheads.values())) < CLOCK_SLICES:
            return
        overheads = {name: median([left for _, left in slices]) for name, slices in self._overheads.items()}
        for name, slices in self._overheads.items():
            typical_s = median([took for took, _ in slices])
            share = (overheads[name] - min(overheads.values())) / typical_s
            if share > CLOCK_SHARE:
                raise NotComparableError(
                    f"{name}: {100 * share:.0f} % of wall time is not accounted for by its reported latencies; "
                    "its clock may be wrong"
                )


def _clamp(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))
