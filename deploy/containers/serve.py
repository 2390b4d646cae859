"""Runs an image as a server. Starts, checks, stops and finds the toolchain's own containers, and no others.

A container is the toolchain's own when it has its label; one that only has the same name is left alone.
"""

import io
import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

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
from deploy.containers.publishing import (
    PublishedEndpoint,
    grpc_address,
    http_url,
    matches_endpoint,
    publishes_port,
    supports_secrets,
)
from deploy.containers.readiness import check_ready, wait_until_ready
from deploy.docker.engine import connect, explain_error, find_builder, is_podman, is_same_architecture
from deploy.docker.labels import BUNDLE, ROLE
from deploy.docker.sandbox import MEMORY_BYTES, RESTART, STATE, sandbox_settings, state_volume
from deploy.images.build import parse_manifest, read_bundle_files, require_image
from toolchain.errors import DeviceError, DockerError
from toolchain.records.bundle import MANIFEST, SAMPLE
from toolchain.records.manifest import Manifest

logger = logging.getLogger(__name__)


DRAIN_S = 15  # the server gives requests in flight 10 s


@dataclass(frozen=True)
class ServerContainer:
    """A running server. grpc: HOST:PORT, empty: not published. cold_start_s: from start to the first answer; None when
    it was running already, or when the toolchain may not send it a request."""

    name: str
    id: str
    url: str
    grpc: str
    image: str
    bundle: str
    cold_start_s: float | None = None


def run_server(
    image: str,
    endpoint: PublishedEndpoint,
    name: str | None = None,
    cpus: float | None = None,
    memory_bytes: int = MEMORY_BYTES,
    timeout_s: float = 180,
) -> ServerContainer:
    """Serve `image` at `endpoint` and wait for its first answer.

    An own container of that name is kept if it already does exactly this, otherwise it is replaced. cpus: a quota in
    CPUs, None for all. DockerError: image missing or for another CPU, port in use, container died or not ready in time.
    """
    name = name or image.rpartition("/")[2].partition(":")[0]
    with closing(connect()) as client:
        image_id = _check_image(client, image, endpoint)
        kept, sample = read_bundle_files(client, image, MANIFEST, SAMPLE)
        manifest, image_pixels = parse_manifest(kept, image), _first_golden_input(sample)
        older = _find_own_container(client, name)
        if older and _is_serving(older, image_id, endpoint, cpus):
            logger.info(f"container: {name} is already running on {http_url(older.attrs)}")
            _check_answer(http_url(older.attrs), endpoint, manifest, image_pixels)
            logger.info(f"container: {endpoint.exposure}")
            return _describe_container(older)
        _check_ports(client, endpoint, older)
        if older:
            logger.info(f"container: replacing {name} ({older.status})")
            _stop(older)
        created = _create(client, image, endpoint, name, cpus, memory_bytes, state_volume(manifest.name))
        try:
            began = time.monotonic()
            _start(client, created, endpoint)
            url = http_url(created.attrs)
            wait_until_ready(url, timeout_s, lambda: _check_alive(created), endpoint.credentials)
            cold_start_s = time.monotonic() - began if _check_answer(url, endpoint, manifest, image_pixels) else None
            # only now: a server that cannot start must not be restarted forever
            created.update(restart_policy=RESTART)  # type: ignore[arg-type]  # missing in its stub
        except BaseException:
            with suppress(docker.errors.NotFound):
                created.remove(force=True)  # a half-started server is worse than none
            raise
        logger.info(f"container: {name} {_describe_start(url, cold_start_s)}")
        logger.info(f"container: {endpoint.exposure}")
        return _describe_container(created, cold_start_s)


def check_start(name: str, endpoint: PublishedEndpoint) -> None:
    """DockerError for whatever would prevent build and start: no engine, no BuildKit, a foreign container, a used
    port."""
    with closing(connect()) as client:
        find_builder(is_podman(client))
        _check_ports(client, endpoint, _find_own_container(client, name))


def stop_server(name: str) -> bool:
    """Drain and remove `name`; False when there is no such container. DockerError when it is not the toolchain's
    own."""
    with closing(connect()) as client:
        container = _find_own_container(client, name)
        if container:
            _stop(container)
        return bool(container)


def _stop(container: EngineContainer) -> None:
    try:
        container.stop(timeout=DRAIN_S)
        container.remove(force=True)
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{container.name}'") from error


def _describe_container(container: EngineContainer, cold_start_s: float | None = None) -> ServerContainer:
    image, bundle = str(container.attrs["Config"]["Image"]), container.labels.get(BUNDLE, "")
    url, grpc = http_url(container.attrs), grpc_address(container.attrs)
    return ServerContainer(str(container.name), str(container.id), url, grpc, image, bundle, cold_start_s)


def _describe_start(url: str, cold_start_s: float | None) -> str:
    if cold_start_s is None:
        return f"is ready on {url}; it requires a client certificate: add --cert=FILE --key=FILE to check its answer"
    return f"answers on {url}, {cold_start_s:.2f} s after its start"


def _check_image(client: DockerClient, image: str, endpoint: PublishedEndpoint) -> str:
    """The image's id; DockerError when it is missing, cannot run on this engine, or does not support secrets."""
    details = require_image(client, image)
    built, here = details.attrs["Architecture"], client.info()["Architecture"]
    if not is_same_architecture(built, here):
        raise DockerError(f"{image} is for {built}, this engine runs on {here}; build it for that: toolchain build")
    if (endpoint.secrets or endpoint.grpc_port is not None) and not supports_secrets(details.attrs):
        raise DockerError(f"{image} was built before gRPC, TLS and tokens were supported; rebuild it: toolchain image")
    return str(details.id)


def _find_own_container(client: DockerClient, name: str) -> EngineContainer | None:
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


def _is_serving(container: EngineContainer, image_id: str, endpoint: PublishedEndpoint, cpus: float | None) -> bool:
    """Whether the container is exactly what is requested, and ready."""
    if container.status != "running" or container.attrs["Image"] != image_id:
        return False
    same_quota = container.attrs["HostConfig"]["NanoCpus"] == int((cpus or 0) * 1e9)
    attrs = container.attrs
    return same_quota and matches_endpoint(attrs, endpoint) and check_ready(http_url(attrs), endpoint.credentials)[0]


def _create(
    client: DockerClient,
    image: str,
    endpoint: PublishedEndpoint,
    name: str,
    cpus: float | None,
    memory_bytes: int,
    volume: str,
) -> EngineContainer:
    memory = min(memory_bytes, int(client.info()["MemTotal"] * 0.9))
    try:
        return client.containers.create(
            image,
            name=name,
            labels={ROLE: "server"},
            ports=endpoint.ports,  # type: ignore[arg-type]  # its stub knows no list of addresses
            environment=endpoint.environment,
            nano_cpus=int(cpus * 1e9) if cpus else None,
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            mounts=[Mount(STATE, volume, type="volume"), *endpoint.mounts],
            device_requests=gpu_requests(client, image),
            **sandbox_settings(memory),
        )
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{name}'") from error


def _start(client: DockerClient, created: EngineContainer, endpoint: PublishedEndpoint) -> None:
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


def _check_ports(client: DockerClient, endpoint: PublishedEndpoint, older: EngineContainer | None) -> None:
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


def _check_alive(container: EngineContainer) -> None:
    _reload(container)
    state = container.attrs["State"]
    if state["Status"] not in ("exited", "dead"):
        return
    lines = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:400] if lines else "no message"
    how = "killed, out of memory" if state["OOMKilled"] else f"exit {state['ExitCode']}"
    raise DockerError(f"container '{container.name}' died ({how}): {last}")


def _first_golden_input(sample: bytes) -> NDArray[np.uint8]:
    """The first golden input, as a batch of one."""
    with np.load(io.BytesIO(sample), allow_pickle=False) as arrays:
        return cast("NDArray[np.uint8]", arrays["inputs"][:1])


def _check_answer(url: str, endpoint: PublishedEndpoint, manifest: Manifest, pixels: NDArray[np.uint8]) -> bool:
    """Whether a request was sent. DeviceError when the server does not answer, or answers unauthenticated clients."""
    if endpoint.unauthenticated is not None:
        _check_authentication(url, manifest, endpoint.unauthenticated)
    if endpoint.is_authorized:
        with connect_client(url, manifest.name, credentials=endpoint.credentials) as server:
            server.infer(pixels)
    return endpoint.is_authorized


def _check_authentication(url: str, manifest: Manifest, stranger: Credentials) -> None:
    with open_connection(url, 10, stranger) as connection:
        status, _ = get(connection, f"/v2/models/{manifest.name}")
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        answer = f"{url} accepts unauthenticated requests (HTTP {status}) although --secrets is set"
        raise DeviceError(f"{answer}; rebuild the image: toolchain image")
