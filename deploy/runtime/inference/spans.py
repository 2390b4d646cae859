"""Inference requests as OpenTelemetry spans, with a child span for every stage, sent by OTLP over HTTP.

Imported only where a collector is configured (tracing.py). The library's own thread sends in batches; while its queue
is full, requests are not traced but counted as dropped, so that a slow or absent collector delays nobody. A stage's
length is measured, its start is not: stages are laid end to end from the request's start, and the time between stages
appears at the end. Knows nothing of sockets.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deploy.runtime.inference.handler import RequestAdapter
from deploy.runtime.logs import Log
from deploy.runtime.metrics import STAGES, Family
from deploy.runtime.scheduling.errors import rejection_reason
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from toolchain import __version__
from toolchain.errors import RequestError, UsageError
from toolchain.records.manifest import Manifest

QUEUE = "OTEL_BSP_MAX_QUEUE_SIZE"
CLOSE_S = 2.0  # for spans not yet sent when the server stops
MAX_SPANS = 1 + len(STAGES)  # spans of a request


class CountingExporter(SpanExporter):
    """Passes spans on and counts them. taken: spans that have left the queue."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = self.sent = self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class TracingLogHandler(logging.Handler):
    """The library's log records as events of the server's log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write("warning", "tracing", reason=record.getMessage()[:300])


class RequestTracer:
    """record_request() is called for every inference request once it is answered, on the event loop's thread."""

    def __init__(self, url: str, manifest: Manifest, log: Log, scheme: str) -> None:
        for name in ("opentelemetry", "urllib3"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [TracingLogHandler(log)], False
        self._queue_size, self._scheme = _queue_size_from_env(), scheme
        self._exporter = CountingExporter(OTLPSpanExporter(url))
        self._provider = TracerProvider(resource=_resource(manifest), shutdown_on_exit=False)
        try:
            self._provider.add_span_processor(BatchSpanProcessor(self._exporter, self._queue_size))
        except ValueError as error:
            raise UsageError(f"OTEL_BSP_* in the environment: {error}") from error
        self._tracer = self._provider.get_tracer("edge-toolchain", __version__)
        self._parent = TraceContextTextMapPropagator()
        self._queued = self._traced = self._dropped = 0

    def record_request(
        self, adapter: RequestAdapter[Any], outcome: InferenceOutcome, seconds: float, times: Mapping[str, float]
    ) -> None:
        """seconds: from the request's start until now; times: seconds by stage."""
        if self._queued - self._exporter.taken + MAX_SPANS > self._queue_size:
            self._dropped += 1
            return
        asked, end = adapter.span_attributes(outcome), time.time_ns()
        attributes = {**asked.attributes, **_outcome_attributes(outcome)}
        if "http.route" in attributes:
            attributes["url.scheme"] = self._scheme
        start = end - int(seconds * 1e9)
        parent = self._parent.extract(asked.headers, Context())
        span = self._tracer.start_span(asked.name, parent, SpanKind.SERVER, attributes, start_time=start)
        if not span.is_recording():
            return  # not in the sample
        self._stages(span, start, times)
        if not isinstance(outcome, InferenceResult | RequestError):
            span.set_status(Status(StatusCode.ERROR, str(outcome)))
        span.end(end)
        self._traced, self._queued = self._traced + 1, self._queued + 1

    def _stages(self, span: Span, start: int, times: Mapping[str, float]) -> None:
        within = set_span_in_context(span, Context())
        for stage in STAGES:
            if stage in times:
                end = start + int(times[stage] * 1e9)
                self._tracer.start_span(stage, within, start_time=start).end(end)
                self._queued, start = self._queued + 1, end

    def families(self) -> Iterator[Family]:
        requests = {"traced": self._traced, "dropped": self._dropped}
        spans = {"sent": self._exporter.sent, "failed": self._exporter.failed}
        yield Family(
            "edge_traced_requests_total",
            "counter",
            "Inference requests in the sample; dropped: the queue to the collector was full.",
            [({"outcome": outcome}, count) for outcome, count in requests.items()],
        )
        yield Family(
            "edge_trace_spans_total",
            "counter",
            "Spans that the collector accepted (sent), and those that it did not (failed).",
            [({"outcome": outcome}, count) for outcome, count in spans.items()],
        )

    def close(self) -> None:
        """Send the rest, for at most CLOSE_S: an absent collector must not keep the server from stopping."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _outcome_attributes(outcome: InferenceOutcome) -> dict[str, str | int]:
    """Rows of the request and of its engine call, or the reason of its error."""
    if isinstance(outcome, InferenceResult):
        return {"edge.rows": outcome.rows, "edge.rows_together": outcome.batch_rows}
    return {"error.type": rejection_reason(outcome)}


def _resource(manifest: Manifest) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES name this server; without them the model's name does."""
    model, environment = Resource({SERVICE_NAME: manifest.name, SERVICE_VERSION: manifest.release}), Resource.create()
    is_named = not str(environment.attributes[SERVICE_NAME]).startswith("unknown_service")
    return model.merge(environment) if is_named else environment.merge(model)


def _queue_size_from_env() -> int:
    """Spans that may wait; 2,048 by OpenTelemetry's default."""
    text = os.environ.get(QUEUE) or "2048"
    if not text.isdecimal() or not MAX_SPANS <= int(text) < 1 << 20:
        raise UsageError(f"{QUEUE}={text} in the environment: expected {MAX_SPANS} or more spans")
    return int(text)
