"""Metric families -> the text of /metrics (exposition format 0.0.4), by prometheus_client.

Importing the library takes about 50 ms of CPU: the thread that loads the engine does it, not the first scrape. The
library's default registry, with its collectors of Python and platform, is not used.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from deploy.runtime.metrics import Family, HistogramFamily

PROCESS = ProcessCollector(registry=None)


class FamilyCollector:
    """A custom collector of `families` and of this process's own."""

    def __init__(self, families: Iterable[Family | HistogramFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield _histograms(family) if isinstance(family, HistogramFamily) else _metric(family)
        yield from PROCESS.collect()


def metrics_text(families: Iterable[Family | HistogramFamily]) -> bytes:
    return generate_latest(FamilyCollector(families))


def _metric(family: Family) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=tuple(family.samples[0][0]) if family.samples else ())
    for labels, value in family.samples:
        metric.add_metric(tuple(labels.values()), value)
    return metric


def _histograms(family: HistogramFamily) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=tuple(family.samples[0][0]))
    for labels, histogram in family.samples:
        metric.add_metric(tuple(labels.values()), histogram.buckets(), histogram.sum)
    return metric
