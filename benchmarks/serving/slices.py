"""Slices -> figures. Pure functions.

A machine's speed drifts by a factor of two within an hour, so each slice of a server is compared with the bare engine
just before and just after it, and the median of these ratios is reported. Percentiles pool the latencies of all rounds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from deploy.gate.statistics import median


class Slice(msgspec.Struct, frozen=True):
    """latencies_ms: of the answers within `seconds`. requests: including the warm-up, as cpu_s does. cpu_s: of the
    measuring process. reply: the last body, in base64 in JSON."""

    seconds: float
    latencies_ms: tuple[float, ...]
    requests: int
    cpu_s: float
    reply: bytes = b""

    @property
    def rate(self) -> float:
        return len(self.latencies_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        return median(self.latencies_ms)


class Round(NamedTuple):
    """A server's slice between two of the bare engine. server_cpu_s: CPU time of the server's processes meanwhile."""

    before: Slice
    slice: Slice
    after: Slice
    server_cpu_s: float

    @property
    def share(self) -> float:
        """Throughput relative to the bare engine."""
        return 2 * self.slice.rate / (self.before.rate + self.after.rate)

    @property
    def more_ms(self) -> float:
        """Median latency beyond the bare engine's."""
        return self.slice.p50_ms - (self.before.p50_ms + self.after.p50_ms) / 2


class Figures(msgspec.Struct, frozen=True):
    """One line of the table. share, more_ms: medians over the rounds. CPU times in ms per request."""

    model: str
    server: str
    transport: str
    concurrency: int
    share: float
    rate: float
    p50_ms: float
    p99_ms: float
    more_ms: float
    server_cpu_ms: float
    client_cpu_ms: float
    memory_mb: float
    spread: tuple[float, float]


def figures(
    model: str, server: str, transport: str, concurrency: int, rounds: Sequence[Round], memory_mb: float
) -> Figures:
    """The figures of all rounds of one server, transport, concurrency and model."""
    pooled = [ms for measured in rounds for ms in measured.slice.latencies_ms]
    requests = sum(measured.slice.requests for measured in rounds)
    shares = [measured.share for measured in rounds]
    return Figures(
        model=model,
        server=server,
        transport=transport,
        concurrency=concurrency,
        share=median(shares),
        rate=median([measured.slice.rate for measured in rounds]),
        p50_ms=float(np.percentile(pooled, 50)),
        p99_ms=float(np.percentile(pooled, 99)),
        more_ms=median([measured.more_ms for measured in rounds]),
        server_cpu_ms=1e3 * sum(measured.server_cpu_s for measured in rounds) / requests,
        client_cpu_ms=1e3 * sum(measured.slice.cpu_s for measured in rounds) / requests,
        memory_mb=memory_mb,
        spread=(min(shares), max(shares)),
    )
