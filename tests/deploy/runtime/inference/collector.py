"""A collector of OpenTelemetry's for tests: takes spans by OTLP over HTTP, in a thread, and keeps them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.deploy.runtime.server import PATIENCE_S

SERVER, INTERNAL = 2, 1
FAILED = 2  # a span's status; 0: unset


@dataclass
class Collector:
    """address: for OTEL_EXPORTER_OTLP_ENDPOINT. silent: takes connections, and never answers."""

    address: str = ""
    silent: bool = False
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(told(group.resource))
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)

    def requests(self, count: int) -> list[Any]:
        """The spans of the requests, once there are so many, in the order in which these came."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            found = [span for span in tuple(self.spans) if span.kind == SERVER]
            if len(found) >= count:
                return sorted(found, key=lambda span: span.start_time_unix_nano)
            time.sleep(0.02)
        raise AssertionError(f"{len(self.spans)} spans, not of {count} requests")

    def below(self, span: Any) -> list[Any]:
        """As they began."""
        found = [one for one in self.spans if one.parent_span_id == span.span_id]
        return sorted(found, key=lambda one: one.start_time_unix_nano)


def told(holder: Any) -> dict[str, Any]:
    """Attributes of a span or of a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@contextmanager
def collecting(silent: bool = False) -> Iterator[Collector]:
    found = Collector(silent=silent)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if found.silent:
                found.ended.wait(30)
                return
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            found.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Not on the tests' stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield found
        found.ended.set()
        server.shutdown()
        thread.join()
