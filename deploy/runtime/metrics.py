"""What the server counts, and metric families as plain values; http/prometheus.py formats them.

Counters change on the event loop's thread only, so they need no locks. Knows nothing of HTTP, and imports no Prometheus
library: what is counted here costs a request next to nothing.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

STAGES = ("parse", "decode", "queue", "infer", "encode")
# From a tensor parsed in microseconds to a batch on a slow core.
BUCKETS_S = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
FLUSH_EVERY = 256
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Histogram:
    """Counts by upper bound, and the sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """(upper bound, observations up to it), as Prometheus has them."""
        bounds = (*(f"{bound:g}" for bound in self.bounds), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))


class Family(NamedTuple):
    """A metric family; samples: labels and value of each, all with the same label names."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


class HistogramFamily(NamedTuple):
    """A family of histograms; samples: labels and histogram of each."""

    name: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], Histogram]]


def gauge(name: str, help_: str, value: float) -> Family:
    return Family(name, "gauge", help_, [({}, value)])


class Metrics:
    """Everything that is counted while serving."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()  # (protocol, endpoint, status)
        self.rejections: Counter[str] = Counter()  # by reason
        self.images = 0
        self.failures, self.failed_s = 0, 0.0  # inference requests without an answer, and the seconds spent on them
        self.last_inference_s = 0.0  # when one was answered, seconds since 1970
        self.stages = {stage: Histogram(BUCKETS_S) for stage in STAGES}
        self.infer_requests = Histogram(BUCKETS_S)
        self.batches = Histogram(BATCHES)
        self._pending: list[tuple[int, tuple[int, ...], Mapping[str, float], float]] = []

    def count_inference(self, rows: int, calls: tuple[int, ...], stages: Mapping[str, float], seconds: float) -> None:
        """Count an inference request of `rows` images that was answered; calls: the rows of each of the engine's calls
        that it was the first of. Many at once, later: between two calls of the engine the processor's caches hold the
        engine's weights, and each line of Python takes several times as long."""
        self._pending.append((rows, calls, stages, seconds))
        self.last_inference_s = time.time()
        if len(self._pending) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Must be called before anything is read."""
        for rows, calls, stages, seconds in self._pending:
            self.images += rows
            for call_rows in calls:
                self.batches.observe(call_rows)
            for stage, stage_s in stages.items():
                self.stages[stage].observe(stage_s)
            self.infer_requests.observe(seconds)
        self._pending.clear()

    def families(self) -> Iterator[Family | HistogramFamily]:
        """The families that count requests."""
        self.flush()
        requests = sorted(self.requests.items())
        yield Family(
            "edge_requests_total",
            "counter",
            "Requests answered; code: an HTTP status or the name of a gRPC status.",
            [
                ({"protocol": protocol, "endpoint": endpoint, "code": code}, count)
                for (protocol, endpoint, code), count in requests
            ],
        )
        yield Family(
            "edge_http_requests_total",
            "counter",
            "Deprecated, removed in the next release: use edge_requests_total.",
            [
                ({"endpoint": endpoint if protocol == "http" else f"{protocol} {endpoint}", "code": code}, count)
                for (protocol, endpoint, code), count in requests
            ],
        )
        yield Family(
            "edge_rejections_total",
            "counter",
            "Requests that got no inference, by reason.",
            [({"reason": reason}, count) for reason, count in sorted(self.rejections.items())],
        )
        yield Family("edge_inferences_total", "counter", "Images (rows of a batch) answered.", [({}, self.images)])
        yield HistogramFamily(
            "edge_stage_seconds",
            "Time of each stage of an inference request.",
            [({"stage": stage}, histogram) for stage, histogram in self.stages.items()],
        )
        yield HistogramFamily(
            "edge_infer_request_seconds",
            "Whole inference requests, from the last byte received to the reply.",
            [({}, self.infer_requests)],
        )
        yield HistogramFamily("edge_batch_size", "Images per engine call.", [({}, self.batches)])
