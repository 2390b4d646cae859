"""Images with the extra that traces requests, and what one without it does when it is told of a collector."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest
from docker import DockerClient

from deploy.containers.run_once import SANDBOX
from deploy.docker.engine import client_command
from deploy.images.build import BuiltImage, build_image
from deploy.images.rebuild import rebuild_and_compare
from tests.deploy.images.test_build import LIMIT_BYTES, python_in
from tests.deploy.runtime.handover.test_socket_holder import free_port
from tests.deploy.runtime.inference.collector import collecting
from tests.deploy.runtime.server import CAT, INFER
from tests.names import own_name
from toolchain.records.bundle import Bundle

LIST = "import importlib.metadata as m; print(*sorted(f'{d.name} {d.version}' for d in m.distributions()), sep=',')"


@pytest.fixture(scope="module")
def traced(engine: DockerClient, bundle: Bundle) -> Iterator[BuiltImage]:
    made = build_image(bundle, own_name("edge-test:traced"), tracing=True)
    yield made
    engine.images.remove(made.tag, force=True)


@pytest.mark.docker
def test_opentelemetry_is_added_and_nothing_else_is_another(image: BuiltImage, traced: BuiltImage) -> None:
    plain, more = (set(python_in(one, LIST).strip().split(",")) for one in (image, traced))
    assert plain < more
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} < {one.split()[0] for one in more - plain}
    assert image.size_bytes < traced.size_bytes <= LIMIT_BYTES


@pytest.mark.docker
def test_it_is_made_again_to_the_same_bytes(traced: BuiltImage, bundle: Bundle) -> None:
    assert rebuild_and_compare(traced.tag, bundle).same


@pytest.mark.docker
def test_its_server_sends_spans(traced: BuiltImage, engine: DockerClient) -> None:
    port = free_port()
    with collecting() as collector:
        named = {
            "CERTIFY": "off",
            "PORT": str(port),
            "GRPC_PORT": "0",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        }
        served = engine.containers.run(traced.tag, detach=True, network_mode="host", environment=named, read_only=True)
        try:
            assert asked(port) == 200
            assert collector.requests(1)[0].name == "POST /v2/models/{name}/infer"
        finally:
            served.remove(force=True)


def asked(port: int) -> int:
    """The status of an inference request, once somebody answers there."""
    body, limit = json.dumps({"inputs": [CAT]}).encode(), time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{INFER}", body, timeout=10) as reply:
                return int(reply.status)
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)


@pytest.mark.docker
def test_without_it_a_server_that_is_told_of_a_collector_does_not_start(image: BuiltImage) -> None:
    told = ("--env=OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", "--env=CERTIFY=off")
    command = [client_command(), "run", "--rm", *SANDBOX, *told, image.tag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert [line[:1] for line in done.stderr.splitlines()] == ["{", "d"], "the log of the start, then one line"
    assert "build it with: toolchain image BUNDLE --tracing, or unset the variable" in done.stderr
