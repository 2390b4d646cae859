"""What becomes of a real container when its process is killed, its memory or volume is full: docs/guides/faults.md."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.bundles import null_bundle
from tests.deploy.runtime.server import CAT
from tests.journeys.conftest import Toolchain, built
from tests.names import own_name

pytestmark = [pytest.mark.docker, pytest.mark.slow]
NAME = own_name("edge-journey-faults")
TAG = f"{NAME}:1"
GRPC = f"""
import sys
import numpy as np, tritonclient.grpc as of
client = of.InferenceServerClient(sys.argv[1])
feed = of.InferInput("image", [1, 8, 8, 3], "UINT8")
feed.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
assert client.infer("{NAME}", [feed]).as_numpy("logits").shape == (1, 4)
"""


@pytest.fixture(scope="module")
def image(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("faults")
    with built(engine, folder, {TAG: null_bundle(folder / "null", name=NAME)}):
        yield TAG


@pytest.fixture
def served(image: str, engine: DockerClient, toolchain: Toolchain) -> Iterator[tuple[Container, str]]:
    """The container as `toolchain run` starts it, and its address."""
    url = toolchain("run", image, "--port=0", f"--name={NAME}").last["url"]
    container = engine.containers.get(NAME)
    yield container, url
    container.remove(force=True)
    for mount in container.attrs["Mounts"]:
        engine.volumes.get(mount["Name"]).remove(force=True)


def inferred(url: str) -> dict[str, Any]:
    body = json.dumps({"inputs": [CAT]}).encode()
    with urllib.request.urlopen(f"{url}/v2/models/{NAME}/infer", body, timeout=5) as reply:
        found = json.load(reply)
        assert isinstance(found, dict)
        return found


def again(ask: Callable[[], object], seconds: float = 30.0) -> object:
    limit = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


def restarted(container: Container) -> dict[str, Any]:
    """Its answer, once the engine has started it again: a port that was not chosen is another one then."""
    container.reload()
    ports = container.attrs["NetworkSettings"]["Ports"].get("8080/tcp")
    if container.attrs["RestartCount"] != 1 or not ports:
        raise ConnectionError("not yet")
    return inferred(f"http://127.0.0.1:{ports[0]['HostPort']}")


def test_a_server_that_is_killed_comes_back_by_itself(served: tuple[Container, str]) -> None:
    container, url = served
    before = inferred(url)
    container.reload()
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)
    assert again(lambda: restarted(container)) == before


def test_memory_that_another_process_eats_is_taken_from_that_one(served: tuple[Container, str]) -> None:
    container, url = served
    limit = container.attrs["HostConfig"]["Memory"]
    assert limit > 0
    code, _ = container.exec_run(["python3", "-c", f"x = bytearray({limit}); x[::4096] = b'1' * len(x[::4096])"])
    assert code == 137, "the kernel has killed what was too large"
    assert again(lambda: inferred(url))


def test_a_full_volume_keeps_nothing_and_serves_all_the_same(image: str, engine: DockerClient) -> None:
    """The device's key and certificate cannot be written: both are made for this run, and the log says so."""
    container = engine.containers.run(
        image, detach=True, tmpfs={"/state": "size=4k,uid=10001,gid=10001"}, environment={"CERTIFY_SECONDS": "0.1"},
        ports={"8080/tcp": ("127.0.0.1", None)}, read_only=True,
    )  # fmt: skip
    try:
        container.reload()
        port = container.attrs["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
        assert again(lambda: inferred(f"http://127.0.0.1:{port}"), 60)
        assert b"certificate: cannot be kept in /state (No space left on device)" in container.logs()
    finally:
        container.remove(force=True)


def test_the_image_answers_grpc_beside_http(image: str, engine: DockerClient) -> None:
    container = engine.containers.run(
        image, detach=True, environment={"CERTIFY": "off"}, ports={"8080/tcp": None, "8081/tcp": None}, read_only=True
    )
    try:
        container.reload()
        ports = container.attrs["NetworkSettings"]["Ports"]
        http, grpc = (ports[f"{port}/tcp"][0]["HostPort"] for port in (8080, 8081))
        assert again(lambda: inferred(f"http://127.0.0.1:{http}"))
        done = subprocess.run(
            [sys.executable, "-c", GRPC, f"127.0.0.1:{grpc}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    finally:
        container.remove(force=True)
