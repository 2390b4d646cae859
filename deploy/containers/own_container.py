"""One container of the toolchain's own: found, created, started and stopped. Knows nothing of what it replaces.

A container is the toolchain's own when it has its label; one that only has the same name is left alone.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import docker.errors
import numpy as np
from docker import DockerClient
from docker.models.containers import Container as EngineContainer
from docker.types import LogConfig, Mount
from numpy.typing import NDArray

from deploy.containers.client import connect_client, get, open_connection
from deploy.containers.credentials import Credentials
from deploy.containers.gpus import gpu_requests
from deploy.containers.ports import describe_port_holder, is_port_in_use
from deploy.containers.publishing import PublishedEndpoint, http_url, publishes_port
from deploy.containers.readiness import wait_until_ready
from deploy.docker.engine import explain_error
from deploy.docker.labels import ROLE
from deploy.docker.sandbox import RESTART, STATE, sandbox_settings, state_volume
from toolchain.errors import DeviceError, DockerError
from toolchain.records.manifest import Manifest

DRAIN_S = 15  # the server gives requests in flight 10 s


@dataclass(frozen=True)
class ServerRequest:
    """What is to serve. cpus: a quota in CPUs, None for all. pixels: the first golden input, a batch of one."""

    image: str
    image_id: str
    endpoint: PublishedEndpoint
    cpus: float | None
    memory_bytes: int
    timeout_s: float
    manifest: Manifest
    pixels: NDArray[np.uint8]


def start_checked(client: DockerClient, request: ServerRequest, name: str) -> tuple[EngineContainer, float | None]:
    """(a container that is ready and has answered, seconds from its start to that answer); none is left on any error.
    None seconds: the toolchain may not send it a request."""
    created = create_container(client, request, name)
    try:
        return created, start_created(client, request, created)
    except BaseException:
        remove_container_now(created)  # a half-started server is worse than none
        raise


def start_created(client: DockerClient, request: ServerRequest, created: EngineContainer) -> float | None:
    """Seconds from its start to its first answer; None when the toolchain may not send it a request."""
    began = time.monotonic()
    start_container(client, created, request.endpoint)
    url = http_url(created.attrs)
    wait_until_ready(url, request.timeout_s, lambda: check_alive(created), request.endpoint.credentials)
    cold_start_s = time.monotonic() - began if check_answer(url, request) else None
    # only now: a server that cannot start must not be restarted forever
    created.update(restart_policy=RESTART)  # type: ignore[arg-type]  # missing in its stub
    return cold_start_s


def remove_container_now(container: EngineContainer) -> None:
    with suppress(docker.errors.NotFound):
        container.remove(force=True)


def own_container_names(client: DockerClient) -> list[str]:
    """The names of all servers that the toolchain started on this machine, running or not."""
    try:
        servers = client.containers.list(all=True, filters={"label": f"{ROLE}=server"})
    except docker.errors.APIError as error:
        raise explain_error(error, "the list of containers") from error
    return sorted(str(server.name) for server in servers)


def find_own_container(client: DockerClient, name: str) -> EngineContainer | None:
    try:
        container = client.containers.get(name)
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{name}'") from error
    if container.labels.get(ROLE) != "server":
        raise DockerError(
            f"container '{name}' was not created by this toolchain; choose another name, or remove it yourself"
        )
    return container


def create_container(client: DockerClient, request: ServerRequest, name: str) -> EngineContainer:
    memory = min(request.memory_bytes, int(client.info()["MemTotal"] * 0.9))
    endpoint = request.endpoint
    try:
        return client.containers.create(
            request.image,
            name=name,
            labels={ROLE: "server"},
            ports=endpoint.ports,  # type: ignore[arg-type]  # its stub knows no list of addresses
            environment=endpoint.environment,
            nano_cpus=int(request.cpus * 1e9) if request.cpus else None,
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            mounts=[Mount(STATE, state_volume(request.manifest.name), type="volume"), *endpoint.mounts],
            device_requests=gpu_requests(client, request.image),
            **sandbox_settings(memory),
        )
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{name}'") from error


def start_container(client: DockerClient, created: EngineContainer, endpoint: PublishedEndpoint) -> None:
    try:
        created.start()
    except docker.errors.APIError as error:
        text = str(error.explanation)
        if "already allocated" in text or "already in use" in text:
            if endpoint.grpc_port and f":{endpoint.grpc_port} " in text:
                raise _port_error(client, "--grpc-port", endpoint.grpc_port) from error
            raise _port_error(client, "--port", endpoint.port) from error
        raise explain_error(error, f"container '{created.name}'") from error
    _reload(created)


def check_ports(client: DockerClient, endpoint: PublishedEndpoint, older: EngineContainer | None) -> None:
    """DockerError when a requested port is used by anything but `older`, which will be replaced."""
    for flag, port in (("--port", endpoint.port), ("--grpc-port", endpoint.grpc_port)):
        if (
            port
            and is_port_in_use(port)
            and not (older and older.status == "running" and publishes_port(older.attrs, port))
        ):
            raise _port_error(client, flag, port)


def _port_error(client: DockerClient, flag: str, port: int) -> DockerError:
    return DockerError(
        f"port {port} is in use by {describe_port_holder(port, client)}; stop that, or choose another: {flag}=…"
    )


def _reload(container: EngineContainer) -> None:
    try:
        container.reload()
    except docker.errors.NotFound as error:
        raise DockerError(
            f"container '{container.name}' was removed while it started; start it again: toolchain run"
        ) from error


def check_alive(container: EngineContainer) -> None:
    _reload(container)
    state = container.attrs["State"]
    if state["Status"] not in ("exited", "dead"):
        return
    lines = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:400] if lines else "no message"
    how = "killed, out of memory" if state["OOMKilled"] else f"exit {state['ExitCode']}"
    raise DockerError(f"container '{container.name}' died ({how}): {last}")


def stop_container(container: EngineContainer) -> None:
    try:
        container.stop(timeout=DRAIN_S)
        container.remove(force=True)
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{container.name}'") from error


def check_answer(url: str, request: ServerRequest) -> bool:
    """Whether a request was sent. DeviceError when the server does not answer, or answers unauthenticated clients."""
    endpoint = request.endpoint
    if endpoint.unauthenticated is not None:
        _check_authentication(url, request.manifest, endpoint.unauthenticated)
    if endpoint.is_authorized:
        with connect_client(url, request.manifest.name, credentials=endpoint.credentials) as server:
            server.infer(request.pixels)
    return endpoint.is_authorized


def _check_authentication(url: str, manifest: Manifest, stranger: Credentials) -> None:
    with open_connection(url, 10, stranger) as connection:
        status, _ = get(connection, f"/v2/models/{manifest.name}")
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        answer = f"{url} accepts unauthenticated requests (HTTP {status}) although --secrets is set"
        raise DeviceError(f"{answer}; rebuild the image: toolchain image")
