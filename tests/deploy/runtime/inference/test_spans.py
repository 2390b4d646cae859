"""A real server and a real collector: what of a request arrives as spans, and what happens when nobody takes them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.handover.test_socket_holder import free_port
from tests.deploy.runtime.inference.collector import FAILED, INTERNAL, SERVER, Collector, collecting, told
from tests.deploy.runtime.protocol.test_protocol_client import picture
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, ROOT, Running, serving
from tests.deploy.runtime.test_server_certificate import sealed
from toolchain.records.bundle import SAMPLE

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
BODY = json.dumps({"inputs": [CAT]}).encode()
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
# One call, one of a stream, and one that is refused; in a process of its own: grpcio has threads.
GRPC = """
import queue, sys
import numpy as np
import tritonclient.grpc as of
address, traceparent = sys.argv[1:]
client = of.InferenceServerClient(address)
def image(rows):
    feed = of.InferInput("image", [rows, 8, 8, 3], "UINT8")
    feed.set_data_from_numpy(np.zeros((rows, 8, 8, 3), np.uint8))
    return feed
client.infer("null", [image(2)], headers={"traceparent": traceparent})
found = queue.Queue()
client.start_stream(lambda result, error: found.put(error or result), headers={"traceparent": traceparent})
client.async_stream_infer("null", [image(1)])
assert found.get(timeout=10).as_numpy("logits").shape == (1, 4)
client.stop_stream()
try:
    client.infer("null", [image(257)])
except of.InferenceServerException as error:
    print(error.status())
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(null_folder: Path, collector: Collector) -> Iterator[Running]:
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, **SOON}
    with serving(null_folder, "--grpc-port", 0, "--host", "127.0.0.1", **named) as server:
        yield server
        assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]


@pytest.fixture(autouse=True)
def from_here_on(collector: Collector) -> None:
    collector.spans.clear()
    collector.resources.clear()


def outcomes(server: Running, family: str) -> dict[str, int]:
    lines = server.ask("GET", "/metrics")[2].decode().splitlines()
    found = [line.partition('{outcome="')[2].partition('"} ') for line in lines if line.startswith(f"{family}{{")]
    return {outcome: int(float(count)) for outcome, _, count in found}


def test_a_request_is_a_span_below_its_callers_with_its_stages_below_it(traced: Running, collector: Collector) -> None:
    assert traced.ask("POST", INFER, BODY, traceparent=SAMPLED, tracestate="us=1")[0] == 200
    (span,) = collector.requests(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, CALLER, "us=1")
    assert (span.kind, span.name, span.status.code) == (SERVER, "POST /v2/models/{name}/infer", 0)
    assert told(span) == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{name}/infer",
        "http.response.status_code": 200,
        "url.path": INFER,
        "url.scheme": "http",
        "edge.rows": 1,
        "edge.rows_together": 1,
    }
    stages = collector.below(span)
    assert [one.name for one in stages] == ["parse", "queue", "infer", "encode"]
    assert {(one.kind, one.trace_id) for one in stages} == {(INTERNAL, span.trace_id)}
    times = [span.start_time_unix_nano]
    times += [time_ns for one in stages for time_ns in (one.start_time_unix_nano, one.end_time_unix_nano)]
    assert times == sorted(times)
    assert times[-1] <= span.end_time_unix_nano < time.time_ns() < span.start_time_unix_nano + 60e9
    (resource, *_) = collector.resources
    assert (resource["service.name"], resource["service.version"]) == ("null", "1")


def test_a_picture_has_a_stage_more(traced: Running, collector: Collector) -> None:
    status, _, body = traced.ask("POST", INFER, picture("JPEG"), Content_Type="image/jpeg")
    assert (status, list(json.loads(body)["times_ms"])) == (200, ["decode", "queue", "infer"])
    (span,) = collector.requests(1)
    assert not span.parent_span_id
    assert [one.name for one in collector.below(span)] == ["parse", "decode", "queue", "infer", "encode"]


def test_what_is_refused_is_told_with_its_reason_and_is_no_fault_of_ours(traced: Running, collector: Collector) -> None:
    for parent in ("", "00-nothing-01", f"00-{'0' * 32}-{CALLER}-01"):
        assert traced.ask("POST", "/v2/models/null/versions/1/infer", b"{}", traceparent=parent)[0] == 400
    spans = collector.requests(3)
    assert len({span.trace_id for span in spans} | {bytes.fromhex(TRACE), bytes(16)}) == 5, "each a trace of its own"
    for span in spans:
        assert (span.name, span.status.code) == ("POST /v2/models/{name}/versions/{version}/infer", 0)
        assert told(span)["error.type"] == "bad_request"
        assert told(span)["http.response.status_code"] == 400


def test_who_called_decides_whether_it_is_traced(traced: Running, collector: Collector) -> None:
    before = outcomes(traced, "edge_traced_requests_total")
    assert traced.ask("POST", INFER, BODY, traceparent=f"00-{TRACE}-{CALLER}-00")[0] == 200
    assert traced.ask("POST", INFER, BODY, traceparent=SAMPLED)[0] == 200
    assert len(collector.requests(1)) == 1
    assert outcomes(traced, "edge_traced_requests_total") == {**before, "traced": before["traced"] + 1}
    sent = outcomes(traced, "edge_trace_spans_total")
    assert sent["sent"] >= 5 and sent["failed"] == 0


def test_calls_of_grpc_are_traced_too(traced: Running, collector: Collector) -> None:
    address = f"127.0.0.1:{traced.wait_for('listening for gRPC')['grpc_port']}"
    words = [sys.executable, "-c", GRPC, address, SAMPLED]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout.strip() == "StatusCode.INVALID_ARGUMENT"
    called, streamed, refused = collector.requests(3)
    for span in (called, streamed):
        assert (span.trace_id.hex(), span.parent_span_id.hex(), span.kind) == (TRACE, CALLER, SERVER)
        assert told(span)["rpc.response.status_code"] == "OK"
        assert [one.name for one in collector.below(span)] == ["parse", "queue", "infer", "encode"]
    service = "inference.GRPCInferenceService"
    assert [one.name for one in (called, streamed)] == [f"{service}/ModelInfer", f"{service}/ModelStreamInfer"]
    assert told(called) == {
        "rpc.system.name": "grpc",
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": f"{service}/ModelInfer",
        "rpc.response.status_code": "OK",
        "edge.rows": 2,
        "edge.rows_together": 2,
    }
    assert (told(refused)["rpc.response.status_code"], told(refused)["error.type"]) == (
        "INVALID_ARGUMENT",
        "bad_request",
    )


def test_a_request_whose_time_ran_out_is_traced_as_failed(traced: Running, collector: Collector) -> None:
    assert traced.infer(CAT, parameters={"timeout": 1})[0] == 504
    (span,) = collector.requests(1)
    assert (span.status.code, told(span)["error.type"]) == (FAILED, "deadline")
    assert "past its deadline" in span.status.message
    assert [one.name for one in collector.below(span)] == ["parse"]


def test_a_server_that_is_not_ready_tells_of_those_it_sends_away(tmp_path: Path, collector: Collector) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    np.savez(bundle.path(SAMPLE), inputs=np.zeros((4, 8, 8, 3), np.uint8), outputs_fp32=np.ones((4, 4), np.float32))
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_SERVICE_NAME": "line 1", **SOON}
    with serving(sealed(bundle).folder, until="not ready", **named) as server:
        assert server.infer(CAT)[0] == 503
        (span,) = collector.requests(1)
    assert (span.status.code, told(span)["http.response.status_code"]) == (FAILED, 503)
    assert not collector.below(span)
    assert collector.resources[0]["service.name"] == "line 1"


@pytest.mark.parametrize("silent", [True, False])
def test_a_collector_that_is_slow_or_away_keeps_nobody_waiting(null_folder: Path, silent: bool) -> None:
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "30", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", **SOON}
    with collecting(silent=True) as slow:
        address = slow.address if silent else f"http://127.0.0.1:{free_port()}"
        with serving(null_folder, OTEL_EXPORTER_OTLP_ENDPOINT=address, **few) as server:
            assert {server.infer(CAT)[0] for _ in range(40)} == {200}
            found = outcomes(server, "edge_traced_requests_total")
            assert found["traced"] + found["dropped"] == 40 and found["dropped"] > 0
            assert outcomes(server, "edge_trace_spans_total")["sent"] == 0
            if not silent:
                assert server.wait_for("tracing")["collector"] == f"{address}/v1/traces"
                while not any(line["event"] == "tracing" and line["level"] == "warning" for line in server.lines):
                    time.sleep(0.05)
            assert server.stop() == 0
            assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]
        assert not slow.spans


def test_what_is_not_sent_yet_is_sent_when_the_server_ends(null_folder: Path, collector: Collector) -> None:
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with serving(null_folder, **named) as server:
        assert server.infer(CAT)[0] == 200
        assert not collector.spans
        assert server.stop() == 0
    assert len(collector.requests(1)) == 1
