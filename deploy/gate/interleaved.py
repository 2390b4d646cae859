"""Interleaved A/B measurement: runners take turns within one run, so that drift of the machine cancels out.

Duet benchmarking: Bulej et al., ICPE 2020 (arXiv 2001.05811). The round is the unit: requests inside one slice share
the state of the machine and are not independent. Knows neither how a container is started nor what a runner computes.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import exp, log
from subprocess import Popen, TimeoutExpired
from time import perf_counter_ns
from typing import Generic, Protocol, TypeVar

import msgspec

from deploy.gate.statistics import bootstrap_median, median
from toolchain.errors import DeviceError, DockerError, RecordError, UsageError
from toolchain.progress import track
from toolchain.records.interleaved import UNREADABLE_REQUEST, SliceRequest, SliceResult
from toolchain.records.report import InterleavedLatencies

WARM_CALLS = 5
InputT = TypeVar("InputT")


class Runner(Protocol):
    """slice() warms up, runs `queries` batch-1 requests one after the other and returns their latencies in ms."""

    @property
    def name(self) -> str: ...
    def slice(self, queries: int) -> list[float]: ...


@dataclass(frozen=True)
class ContainerRunner:
    """A candidate inside `docker run -i IMAGE duet`, controlled by JSON lines. Several runners may share one `process`,
    opened in text mode with pipes for its input and output."""

    process: Popen[str]
    precision: str
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.precision

    def slice(self, queries: int) -> list[float]:
        """DockerError when the container is gone, DeviceError for an error that it reports."""
        return list(self.run_slice(SliceRequest(self.precision, queries)).latencies_ms)

    def run_slice(self, request: SliceRequest) -> SliceResult:
        """Any kind of slice; errors as slice()."""
        answer = self._exchange(msgspec.json.encode(request).decode())
        try:
            result = msgspec.json.decode(answer, type=SliceResult)
        except msgspec.MsgspecError as error:
            raise DockerError(f"{self.name}: the container answered {answer.strip()[:80]!r}, not a slice") from error
        if result.error.startswith(UNREADABLE_REQUEST):
            raise DeviceError(f"{self.name}: built by an older toolchain; rebuild its image: toolchain image")
        if result.error:
            raise DeviceError(f"{self.name}: {result.error}")
        return result

    def _exchange(self, line: str) -> str:
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("open the process with stdin=PIPE, stdout=PIPE, text=True")
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            with suppress(OSError):  # otherwise closing the pipe later would send the line again
                self.process.stdin.close()
            with suppress(TimeoutExpired):  # it may hang after closing its output: the exit code is then unknown
                self.process.wait(timeout=10)
            code = self.process.returncode
            raise DockerError(f"{self.name}: the container ended (exit code {code}) during a measurement; see its log")
        return answer


@dataclass(frozen=True)
class CallableRunner(Generic[InputT]):
    """A function in this process, such as the eager PyTorch baseline. It cycles through the batch-1 `inputs`."""

    name: str
    call: Callable[[InputT], object]
    inputs: Sequence[InputT]

    def slice(self, queries: int) -> list[float]:
        latencies_ms = []
        for query in range(-WARM_CALLS, queries):
            image = self.inputs[query % len(self.inputs)]
            began = perf_counter_ns()
            self.call(image)
            latencies_ms.append((perf_counter_ns() - began) / 1e6)
        return latencies_ms[WARM_CALLS:]


def run_interleaved(
    runners: Sequence[Runner],
    rounds: int,
    queries: int,
    *,
    threads: int,
) -> InterleavedLatencies:
    """Measure `rounds` rounds, in each of which every runner runs one slice of `queries`. Every other round runs in
    reverse order (ABBA), so that drift favours no runner. threads: each runner's thread count, for the record."""
    names = [runner.name for runner in runners]
    if len(set(names)) < max(2, len(names)):
        raise UsageError(f"expected at least two runners with different names, got: {', '.join(names)}")
    if rounds < 2 or queries < 1:
        raise UsageError(f"expected at least 2 rounds of 1 query, got {rounds} of {queries}")
    slices: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for index in track(range(rounds), "rounds"):
        for runner in runners[:: 1 if index % 2 == 0 else -1]:
            slices[runner.name].append(tuple(runner.slice(queries)))
    return InterleavedLatencies(threads, {name: tuple(result) for name, result in slices.items()})


def latency_ratio(measurement: InterleavedLatencies, a: str, b: str) -> tuple[float, float, float]:
    """Latency of `a` divided by that of `b`: the median over the rounds and its 95 % interval (low, high).

    Each round yields one value, the log-ratio of the two slices' medians; the interval is a bootstrap over rounds.
    """
    for name in (a, b):
        if name not in measurement.latencies_ms:
            raise RecordError(f"no runner '{name}' in this measurement; it has: {', '.join(measurement.latencies_ms)}")
    pairs = list(zip(measurement.latencies_ms[a], measurement.latencies_ms[b], strict=True))
    logs = [log(median(of_a) / median(of_b)) for of_a, of_b in pairs]
    low, high = bootstrap_median(logs)
    return exp(median(logs)), exp(low), exp(high)
