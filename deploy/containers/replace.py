"""Replaces a container only after the new one stands: new beside old, ready, gated, and then switched.

On any failure the old one still answers. Where both want the same port, a trial on a free port shows that the new one
can serve here, before the old one drains; the port is closed from then until the new one is ready, as long as its cold
start takes. `toolchain ship` loses no request, by a socket that both releases share.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import docker.errors
from docker import DockerClient
from docker.models.containers import Container as EngineContainer

from deploy.containers.own_container import (
    DRAIN_S,
    ServerRequest,
    create_container,
    find_own_container,
    remove_container_now,
    start_checked,
    start_created,
    stop_container,
)
from deploy.containers.publishing import has_secrets, http_url, publishes_port
from deploy.containers.readiness import wait_until_ready
from deploy.docker.engine import explain_error
from toolchain.errors import DockerError, ToolchainError

logger = logging.getLogger(__name__)

# (the new image, the id of the image that serves): raises when the new one must not replace it
ReplacementGate = Callable[[str, str], None]
RETURN_S = 60.0  # until the old one, started again, is ready


def find_replaced(
    client: DockerClient, name: str | None, default: str, port: int
) -> tuple[str, EngineContainer | None]:
    """(the name to serve under, the container that this replaces). Without a name of the user's, one that serves on
    another port stays, and the port is a part of the new one's name."""
    if name:
        return name, find_own_container(client, name)
    beside = f"{default}-{port}"
    if port and (older := find_own_container(client, beside)):
        return beside, older
    older = find_own_container(client, default)
    if older is None or not port or older.status != "running" or publishes_port(older.attrs, port):
        return default, older
    return beside, None


def replace_container(
    client: DockerClient, request: ServerRequest, older: EngineContainer, gate: ReplacementGate | None
) -> tuple[EngineContainer, float | None]:
    """(the container that serves under the name of `older` now, seconds of its cold start)."""
    name, beside = str(older.name), f"{older.name}-new"
    leftover = find_own_container(client, beside)
    if leftover:
        logger.info(f"container: removing {beside}, which an interrupted run left")
        remove_container_now(leftover)
    if older.status != "running":
        logger.info(f"container: replacing {name} ({older.status})")
        created, cold_start_s = start_checked(client, request, beside)
    elif any(
        port and publishes_port(older.attrs, port) for port in (request.endpoint.port, request.endpoint.grpc_port)
    ):
        created, cold_start_s = _replace_on_its_port(client, request, older, beside, gate)
    else:
        logger.info(f"container: starting {request.image} beside {name}, which serves until it is replaced")
        created, cold_start_s = start_checked(client, request, beside)
        try:
            _run_gate(gate, request, older)
            logger.info(f"container: replacing {name} (running)")
        except BaseException:
            remove_container_now(created)
            raise
    _take_over_name(created, older)
    return created, cold_start_s


def _replace_on_its_port(
    client: DockerClient, request: ServerRequest, older: EngineContainer, beside: str, gate: ReplacementGate | None
) -> tuple[EngineContainer, float | None]:
    wanted = request.endpoint
    free = replace(wanted, port=0, grpc_port=None if wanted.grpc_port is None else 0, is_public=False)
    logger.info(f"container: trying {request.image} beside {older.name}, which serves until it is replaced")
    trial, _ = start_checked(client, replace(request, endpoint=free), beside)
    remove_container_now(trial)  # it shares memory and CPUs with what serves, and with the gate
    _run_gate(gate, request, older)
    created = create_container(client, request, beside)
    try:
        logger.info(f"container: replacing {older.name} (running)")
        _stop(older)
        return created, start_created(client, request, created)
    except BaseException as error:
        with suppress(docker.errors.APIError):
            remove_container_now(created)
        _start_again(older, request)
        if isinstance(error, ToolchainError):
            raise type(error)(f"{error}; {older.name} serves again as before") from error
        raise


def _run_gate(gate: ReplacementGate | None, request: ServerRequest, older: EngineContainer) -> None:
    if gate:
        gate(request.image, str(older.attrs["Image"]))


def _stop(older: EngineContainer) -> None:
    try:
        older.stop(timeout=DRAIN_S)
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{older.name}'") from error


def _start_again(older: EngineContainer, request: ServerRequest) -> None:
    """DockerError: it cannot be started any more; the message says how a person does that."""
    try:
        older.start()  # nothing where it still runs
        older.reload()
    except docker.errors.APIError as error:
        raise DockerError(
            f"container '{older.name}' was stopped to be replaced and could not be started again "
            f"({error.explanation}); mend the engine, then: docker start {older.name}"
        ) from error
    # with other secrets than its own, this command may not ask it
    if has_secrets(older.attrs, request.endpoint.mounts, request.endpoint.environment):
        wait_until_ready(http_url(older.attrs), RETURN_S, lambda: None, request.endpoint.credentials)


def _take_over_name(created: EngineContainer, older: EngineContainer) -> None:
    name = str(older.name)
    stop_container(older)
    try:
        created.rename(name)
        created.reload()
    except docker.errors.APIError as error:
        raise explain_error(error, f"container '{created.name}'") from error
