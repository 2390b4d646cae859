"""Runs an image as a server. Starts, checks, stops and finds the toolchain's own containers, and no others."""

import io
import logging
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import numpy as np
from docker import DockerClient
from docker.models.containers import Container as EngineContainer
from numpy.typing import NDArray

from deploy.containers.own_container import (
    ServerRequest,
    check_answer,
    check_ports,
    find_own_container,
    own_container_names,
    start_checked,
    stop_container,
)
from deploy.containers.publishing import (
    PublishedEndpoint,
    grpc_address,
    http_url,
    matches_endpoint,
    supports_secrets,
)
from deploy.containers.readiness import check_ready
from deploy.containers.replace import ReplacementGate, find_replaced, replace_container
from deploy.docker.engine import connect, find_builder, is_podman, is_same_architecture
from deploy.docker.labels import BUNDLE
from deploy.docker.sandbox import MEMORY_BYTES
from deploy.images.build import parse_manifest, read_bundle_files, require_image
from toolchain.errors import DockerError
from toolchain.records.bundle import MANIFEST, SAMPLE

logger = logging.getLogger(__name__)


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
    gate: ReplacementGate | None = None,
    default_name: str = "",
) -> ServerContainer:
    """Serve `image` at `endpoint` and wait for its first answer.

    An own container of that name is kept if it already does exactly this; otherwise it serves until the new one stands
    and has passed `gate` (None: not asked for). Without a name it is `default_name`, "" for the image's, and one of
    that name on another port stays. cpus: a quota in CPUs, None for all. DockerError: image missing or for another CPU,
    port in use, container died or not ready in time.
    """
    with closing(connect()) as client:
        request = _read_request(client, image, endpoint, cpus, memory_bytes, timeout_s)
        default, asked = default_name or image.rpartition("/")[2].partition(":")[0], name
        name, older = find_replaced(client, asked, default, endpoint.port)
        if older and _is_serving(older, request.image_id, endpoint, cpus):
            logger.info(f"container: {name} is already running on {http_url(older.attrs)}")
            check_answer(http_url(older.attrs), request)
            logger.info(f"container: {endpoint.exposure}")
            return _describe_container(older)
        check_ports(client, endpoint, older)
        if not asked and name != default:
            logger.info(f"container: {default} stays on its port; this one is {name}")
        if older:
            created, cold_start_s = replace_container(client, request, older, gate)
        else:
            created, cold_start_s = start_checked(client, request, name)
        logger.info(f"container: {name} {_describe_start(http_url(created.attrs), cold_start_s)}")
        logger.info(f"container: {endpoint.exposure}")
        return _describe_container(created, cold_start_s)


def check_start(name: str, endpoint: PublishedEndpoint) -> None:
    """DockerError for whatever would prevent build and start: no engine, no BuildKit, a foreign container, a used
    port. name: run_server's default_name."""
    with closing(connect()) as client:
        find_builder(is_podman(client))
        _, older = find_replaced(client, None, name, endpoint.port)
        check_ports(client, endpoint, older)


def _read_request(
    client: DockerClient,
    image: str,
    endpoint: PublishedEndpoint,
    cpus: float | None,
    memory_bytes: int,
    timeout_s: float,
) -> ServerRequest:
    image_id = _check_image(client, image, endpoint)
    manifest, sample = read_bundle_files(client, image, MANIFEST, SAMPLE)
    pixels = _first_golden_input(sample)
    return ServerRequest(
        image, image_id, endpoint, cpus, memory_bytes, timeout_s, parse_manifest(manifest, image), pixels
    )


def stop_server(name: str) -> bool:
    """Drain and remove `name`; False when there is no such container. DockerError when it is not the toolchain's
    own."""
    with closing(connect()) as client:
        container = find_own_container(client, name)
        if container:
            stop_container(container)
        return bool(container)


def server_names() -> list[str]:
    """What stop_server() can stop."""
    with closing(connect()) as client:
        return own_container_names(client)


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


def _is_serving(container: EngineContainer, image_id: str, endpoint: PublishedEndpoint, cpus: float | None) -> bool:
    """Whether the container is exactly what is requested, and ready."""
    if container.status != "running" or container.attrs["Image"] != image_id:
        return False
    same_quota = container.attrs["HostConfig"]["NanoCpus"] == int((cpus or 0) * 1e9)
    attrs = container.attrs
    return same_quota and matches_endpoint(attrs, endpoint) and check_ready(http_url(attrs), endpoint.credentials)[0]


def _first_golden_input(sample: bytes) -> NDArray[np.uint8]:
    """The first golden input, as a batch of one."""
    with np.load(io.BytesIO(sample), allow_pickle=False) as arrays:
        return cast("NDArray[np.uint8]", arrays["inputs"][:1])
