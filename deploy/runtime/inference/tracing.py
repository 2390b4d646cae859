"""Whether and where inference requests are traced, by OpenTelemetry's own variables; off by default.

When off, nothing of OpenTelemetry is imported and nothing is sent. Tracing is an optional part of the image: where a
collector is configured and that part is missing, the server does not start. What is sent: spans.py.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploy.runtime.logs import Log
from toolchain.errors import UsageError
from toolchain.records.manifest import Manifest

if TYPE_CHECKING:
    from deploy.runtime.inference.spans import RequestTracer

ALL, TRACES = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
SPOKEN = "http/protobuf"


def make_tracer(manifest: Manifest, log: Log, scheme: str) -> "RequestTracer | None":
    """None where no collector is configured; UsageError where spans cannot be sent as configured."""
    url = collector_url(os.environ)
    if not url:
        return None
    try:
        from deploy.runtime.inference.spans import RequestTracer  # takes a quarter of a second
    except ImportError as error:
        raise UsageError(
            f"{ALL} is set, but OpenTelemetry is not in this image ({error}); "
            "build it with: toolchain image BUNDLE --tracing, or unset the variable"
        ) from error
    log.write("info", "tracing", collector=url)
    return RequestTracer(url, manifest, log, scheme)


def collector_url(environment: Mapping[str, str]) -> str:
    """The URL that spans are posted to; "": none."""
    whole, base = environment.get(TRACES, ""), environment.get(ALL, "")
    is_off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if is_off or environment.get("OTEL_TRACES_EXPORTER") == "none" or not (whole or base):
        return ""
    for name in PROTOCOLS:
        if (found := environment.get(name, SPOKEN)) not in ("", SPOKEN):
            raise UsageError(
                f"{name}={found}: expected {SPOKEN}, the only supported protocol; its port is usually 4318"
            )
    address = urlsplit(whole or base)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise UsageError(f"{TRACES if whole else ALL}={whole or base}: expected http://HOST:4318, or https")
    return whole or f"{base.rstrip('/')}/v1/traces"
