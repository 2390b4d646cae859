"""`python -m benchmarks.serving.container`: the image's size, its container's cold start and its restart.

The real container as `toolchain run` starts it: sandboxed, with health checks, gRPC and its volume. The first start
fills the volume and does not count. Times are measured on the host, from the call to the engine or from the death of
the server until /v2/health/ready returns 200 on the published port. Killing the server needs root.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from select import POLLIN, poll

import docker.errors
import numpy as np
from docker import DockerClient
from docker.models.containers import Container

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.serving.models import bundle_of
from benchmarks.serving.others import free_port
from deploy.containers import serve as containers
from deploy.containers.own_container import DRAIN_S
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.readiness import wait_until_ready
from deploy.docker.engine import connect
from deploy.docker.sandbox import state_volume
from deploy.images.build import build_image
from toolchain.cli.console import log_to_stderr
from toolchain.errors import DockerError

MODEL, NAME, TAG = "mobilenet_v2", "edge-bench-container", "edge-bench-container:1"
STARTS, KILLS = 9, 5
CALM_S = (
    10.5  # the engine waits 0.1 s before a restart, and doubles that for a container that ran less than ten seconds
)
PATIENCE_S = 60.0


def rows(size_bytes: int | None, starts_s: Sequence[float], restarts_s: Sequence[float], note: str = "") -> list[Row]:
    """The rows; note: why something was not measured."""
    size = None if size_bytes is None else size_bytes / 1e6
    start = float(np.median(starts_s)) if starts_s else None
    again = max(restarts_s, default=None)
    return [
        row("CPU image with gRPC, unpacked", size, "<=", 250, "MB", f"{MODEL} int8" if size else note),
        row("container, start to ready with a warm cache", start, "<", 1.5, "s", _all("median", starts_s) or note),
        row("container, kill -9 to ready again", again, "<", 3, "s", _all("worst", restarts_s) or note),
    ]


def _all(which: str, seconds: Sequence[float]) -> str:
    shown = " ".join(f"{second:.2f}" for second in sorted(seconds))
    return f"the {which} of {len(seconds)}: {shown} s; {MODEL} int8" if seconds else ""


@contextmanager
def running(client: DockerClient, volume: str) -> Iterator[tuple[Container, str]]:
    """A running container of TAG and its address; it is removed at the end, with its volume unless that existed
    before."""
    kept = {volume.name for volume in client.volumes.list()}
    try:
        url = containers.run_server(TAG, PublishedEndpoint(free_port()), NAME).url
        served = client.containers.get(NAME)
        if b"listening for gRPC" not in served.logs():
            raise DockerError(f"{TAG} does not speak gRPC: its log has no 'listening for gRPC'")
        yield served, url
    finally:
        containers.stop_server(NAME)
        with suppress(docker.errors.NotFound):
            if volume not in kept:
                client.volumes.get(volume).remove(force=True)


def started_s(served: Container, url: str) -> float:
    served.stop(timeout=DRAIN_S)
    began = time.monotonic()
    served.start()
    return _until_ready(url, began)


def restart_s(served: Container, url: str) -> float:
    """Seconds until ready again after SIGKILL; sent directly, since the engine restarts nothing that it killed
    itself."""
    time.sleep(CALM_S)
    served.reload()
    server = os.pidfd_open(served.attrs["State"]["Pid"])
    try:
        gone = poll()
        gone.register(server, POLLIN)
        began = time.monotonic()
        signal.pidfd_send_signal(server, signal.SIGKILL)
        gone.poll()  # until then the old server could still answer
    finally:
        os.close(server)
    return _until_ready(url, began)


def _until_ready(url: str, began: float) -> float:
    wait_until_ready(url, PATIENCE_S, lambda: None)
    return time.monotonic() - began


def measured(client: DockerClient) -> list[Row]:
    bundle = bundle_of(MODEL)
    image = build_image(bundle, TAG)
    try:
        with running(client, state_volume(bundle.manifest.name)) as (served, url):
            logger.info(f"  container: {STARTS} starts, {KILLS} kills")
            starts = [started_s(served, url) for _ in range(STARTS)]
            killed = [restart_s(served, url) for _ in range(KILLS)] if not os.geteuid() else []
    finally:
        client.images.remove(TAG, force=True)
    return rows(image.size_bytes, starts, killed, "killing needs root")


def of_container() -> list[Row]:
    """The rows; not measured, with the reason, where there is no engine or it cannot serve."""
    logger.info("bench: container")
    try:
        with closing(connect()) as client:
            return measured(client)
    except DockerError as error:
        return rows(None, [], [], str(error))


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("container", of_container))
