import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from deploy.gate.interleaved import CallableRunner, ContainerRunner, latency_ratio, run_interleaved
from tests.bundles import null_bundle
from toolchain.errors import DeviceError, DockerError, RecordError, UsageError
from toolchain.records.interleaved import SliceRequest
from toolchain.records.report import InterleavedLatencies

RUNNER = """
import sys
from pathlib import Path
from deploy.runtime.certification.interleaved import run_interleaved
from toolchain.records.bundle import open_bundle
run_interleaved(open_bundle(Path(sys.argv[1])), 1, sys.stdin, sys.stdout)
"""
Process = Popen[str]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """The container's side, in a process of its own."""
    folder = null_bundle(tmp_path / "b", delay_ms=4).folder
    with Popen([sys.executable, "-c", RUNNER, str(folder)], stdin=PIPE, stdout=PIPE, text=True) as runner:
        yield runner
        runner.kill()


class RecordingRunner:
    """A runner that records its turns."""

    def __init__(self, name: str, turns: list[str], latency_ms: float = 1.0) -> None:
        self.name, self._turns, self._latency_ms = name, turns, latency_ms

    def slice(self, queries: int) -> list[float]:
        self._turns.append(self.name)
        return [self._latency_ms * len(self._turns)] * queries


def test_a_container_and_a_function_are_measured_interleaved(process: Process) -> None:
    slow = CallableRunner("slow", time.sleep, [0.012])
    measurement = run_interleaved([ContainerRunner(process, "fp32"), slow], 4, 8, threads=1)
    assert measurement.threads == 1
    assert {name: [len(slice) for slice in slices] for name, slices in measurement.latencies_ms.items()} == {
        "fp32": [8] * 4,
        "slow": [8] * 4,
    }
    times, low, high = latency_ratio(measurement, "slow", "fp32")
    assert low <= times <= high
    assert 1.2 < times < 4


def test_turns_alternate_so_that_drift_favours_no_runner() -> None:
    turns: list[str] = []
    measurement = run_interleaved([RecordingRunner("a", turns), RecordingRunner("b", turns)], 4, 1, threads=2)
    assert "".join(turns) == "abbaabba"
    times, _, _ = latency_ratio(measurement, "a", "b")
    assert times == pytest.approx(1, abs=0.1)  # the machine got eight times slower meanwhile


def test_the_interval_is_over_rounds_and_reproducible() -> None:
    rounds = [1.9, 2.0, 2.1, 2.0, 1.95, 2.05, 2.0, 30.0]
    measurement = InterleavedLatencies(1, {"a": tuple((each,) * 5 for each in rounds), "b": ((1.0,) * 5,) * 8})
    times, low, high = latency_ratio(measurement, "a", "b")
    assert times == pytest.approx(2.0)
    assert 1.9 <= low < 2.0 < high < 2.2
    assert latency_ratio(measurement, "a", "b") == (times, low, high)
    assert latency_ratio(measurement, "b", "a")[0] == pytest.approx(0.5)


def test_an_error_of_the_container_is_passed_on(process: Process) -> None:
    with pytest.raises(DeviceError, match="fast: no candidate 'int8' in this bundle; it has: fp32"):
        ContainerRunner(process, "int8", "fast").slice(3)


def test_a_container_that_died_is_reported_with_its_exit_code() -> None:
    with Popen([sys.executable, "-c", "raise SystemExit(3)"], stdin=PIPE, stdout=PIPE, text=True) as gone:
        gone.wait()
        with pytest.raises(DockerError, match=r"fp32: the container ended \(exit code 3\) during a measurement"):
            ContainerRunner(gone, "fp32").slice(3)


def test_an_unreadable_answer_is_quoted() -> None:
    with (
        Popen([sys.executable, "-c", "print('oops')"], stdin=PIPE, stdout=PIPE, text=True) as odd,
        pytest.raises(DockerError, match="fp32: the container answered 'oops', not a slice"),
    ):
        ContainerRunner(odd, "fp32").slice(3)


def test_a_container_that_cannot_read_a_request_needs_a_rebuild() -> None:
    script = 'input(); print(\'{"error": "not a turn: Object contains unknown field `pinned`"}\')'
    with (
        Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, text=True) as old,
        pytest.raises(DeviceError, match=r"baseline: built by an older toolchain; rebuild its image"),
    ):
        ContainerRunner(old, "", "baseline").run_slice(SliceRequest("", 1, pinned=True))


def test_an_impossible_measurement_is_refused() -> None:
    with pytest.raises(UsageError, match="at least two runners with different names, got: a, a"):
        run_interleaved([RecordingRunner("a", []), RecordingRunner("a", [])], 4, 1, threads=1)
    with pytest.raises(UsageError, match="at least 2 rounds of 1 query, got 1 of 4"):
        run_interleaved([RecordingRunner("a", []), RecordingRunner("b", [])], 1, 4, threads=1)
    with pytest.raises(RecordError, match="no runner 'x' in this measurement; it has: a, b"):
        latency_ratio(InterleavedLatencies(1, {"a": ((1.0,),), "b": ((1.0,),)}), "a", "x")
