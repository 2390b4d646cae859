"""A benchmark's report: it keeps every raw latency; percentiles are computed on request.

Format history
1  first (0.1.0)
2  the fingerprint records microcode, NUMA nodes, cpuset, turbo and clock (0.2.0)
3  what the GPU was and did; energy (0.3.0)
"""

from collections.abc import Sequence
from math import ceil

import msgspec

from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gpu import GpuFigures, Percentiles

FORMAT = 3

# MLPerf inference rules: queries that a percentile needs at 99 % confidence with a twentieth of its tail as margin.
SAMPLES_FOR = {50.0: 8, 90.0: 64, 99.0: 662, 99.9: 6636}


def percentile(latencies: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile; None where there are too few samples for it."""
    if len(latencies) < SAMPLES_FOR[percent]:
        return None
    ordered = sorted(latencies)
    return ordered[ceil(percent / 100 * len(ordered)) - 1]


def percentiles(latencies: Sequence[float]) -> Percentiles:
    """50th, 90th and 99th."""
    return percentile(latencies, 50.0), percentile(latencies, 90.0), percentile(latencies, 99.0)


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An MLPerf LoadGen scenario. latencies_ms: one per query, in order; throughput_per_s: images per second."""

    scenario: str
    latencies_ms: tuple[float, ...]
    throughput_per_s: float
    seconds: float
    valid: bool
    note: str = ""

    def percentile_ms(self, percent: float) -> float | None:
        return percentile(self.latencies_ms, percent)


class InterleavedLatencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Variants measured in turn in one run: latencies_ms[variant][round] are the latencies of one slice."""

    threads: int
    latencies_ms: dict[str, tuple[tuple[float, ...], ...]]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A container's measurements of itself. cold_start_s: from container start to the first output, measured by the
    host; gpu: None for a bundle that runs on the CPU; joules_per_picture, energy: as in a certificate."""

    bundle: str
    name: str
    release: str
    target: str
    precision: str
    backend: str
    engine: str
    threads: int
    fingerprint: Fingerprint
    scenarios: tuple[Scenario, ...]
    peak_memory_bytes: int
    throttled_periods: int
    measured_at: str
    cold_start_s: float | None = None
    interleaved: InterleavedLatencies | None = msgspec.field(default=None, name="duet")  # its key in the file
    gpu: GpuFigures | None = None
    joules_per_picture: float | None = None
    energy: str = ""
    format: int = FORMAT

    def scenario(self, name: str) -> Scenario:
        return next(scenario for scenario in self.scenarios if scenario.scenario == name)
