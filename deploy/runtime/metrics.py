"""What the server counts, as Prometheus text (prometheus.io/docs/instrumenting/exposition_formats, 0.0.4).

Counts are changed on the event loop's thread only, so they need no locks. Knows nothing of HTTP.
"""

import os
import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

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

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        running = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield sample(f"{name}_bucket", running, **labels, le=le)
        yield sample(f"{name}_sum", self.sum, **labels)
        yield sample(f"{name}_count", running, **labels)


class Metrics:
    """Everything that is counted while serving."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()  # (endpoint, HTTP status)
        self.rejections: Counter[str] = Counter()  # by reason
        self.images = 0
        self.failures, self.failed_s = 0, 0.0  # inference requests without an answer, and the seconds spent on them
        self.last_inference_s = 0.0  # when one was answered, seconds since 1970
        self.stages = {stage: Histogram(BUCKETS_S) for stage in STAGES}
        self.infer_requests = Histogram(BUCKETS_S)
        self.batches = Histogram(BATCHES)
        self._pending: list[tuple[int, int, Mapping[str, float], float]] = []

    def count_inference(self, rows: int, call_rows: int, stages: Mapping[str, float], seconds: float) -> None:
        """Count an inference request of `rows` images that was answered; call_rows: those of the engine's call that it
        was the first of, else 0. Many at once, later: between two calls of the engine the processor's caches hold the
        engine's weights, and each line of Python takes several times as long."""
        self._pending.append((rows, call_rows, stages, seconds))
        self.last_inference_s = time.time()
        if len(self._pending) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """To be called before anything is read."""
        for rows, call_rows, stages, seconds in self._pending:
            self.images += rows
            if call_rows:
                self.batches.observe(call_rows)
            for stage, stage_s in stages.items():
                self.stages[stage].observe(stage_s)
            self.infer_requests.observe(seconds)
        self._pending.clear()


def sample(name: str, value: float, **labels: str) -> str:
    """One line; a label's value may hold anything."""
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = str(value) if isinstance(value, int) else f"{value:.12g}"
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family(name: str, kind: str, words: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# HELP {name} {words}", f"# TYPE {name} {kind}", *lines, ""])


def served_text(metrics: Metrics) -> str:
    """The families that count requests."""
    metrics.flush()
    return "".join(
        [
            family(
                "edge_http_requests_total",
                "counter",
                "Requests answered, by endpoint and HTTP status.",
                (
                    sample("edge_http_requests_total", count, endpoint=endpoint, code=code)
                    for (endpoint, code), count in sorted(metrics.requests.items())
                ),
            ),
            family(
                "edge_rejections_total",
                "counter",
                "Requests that got no inference, by reason.",
                (
                    sample("edge_rejections_total", count, reason=reason)
                    for reason, count in sorted(metrics.rejections.items())
                ),
            ),
            family(
                "edge_inferences_total",
                "counter",
                "Pictures (rows of a batch) answered.",
                [sample("edge_inferences_total", metrics.images)],
            ),
            family(
                "edge_stage_seconds",
                "histogram",
                "Time of each stage of an inference request.",
                (
                    line
                    for stage, histogram in metrics.stages.items()
                    for line in histogram.lines("edge_stage_seconds", {"stage": stage})
                ),
            ),
            family(
                "edge_infer_request_seconds",
                "histogram",
                "Whole inference requests, from the last byte in to the reply.",
                metrics.infer_requests.lines("edge_infer_request_seconds", {}),
            ),
            family(
                "edge_batch_size",
                "histogram",
                "Pictures a call of the engine.",
                metrics.batches.lines("edge_batch_size", {}),
            ),
        ]
    )


def gauges_text(gauges: Mapping[str, tuple[str, float]]) -> str:
    """Single values: name -> (help, value)."""
    return "".join(family(name, "gauge", words, [sample(name, value)]) for name, (words, value) in gauges.items())


def process_text() -> str:
    """This process, under the names that every Prometheus client uses."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    started = int(booted.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    cpu = "process_cpu_seconds_total"
    return family(
        cpu, "counter", "User and system time.", [sample(cpu, usage.ru_utime + usage.ru_stime)]
    ) + gauges_text(
        {
            "process_resident_memory_bytes": ("Resident memory.", resident),
            "process_start_time_seconds": ("When the process started, seconds since 1970.", started),
            "process_open_fds": ("Open file descriptors.", len(os.listdir("/proc/self/fd"))),  # noqa: PTH208
        }
    )
