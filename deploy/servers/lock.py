"""A lock on a server: a container that never runs, whose name an engine gives out once. Its labels tell who holds it.

A holder that was killed is known by its process, on the host that it ran on; of another host nobody can tell, and a
person must say that it is gone.
"""

import io
import logging
import tarfile
from contextlib import suppress

import docker.errors
import msgspec
from docker import DockerClient

from deploy.docker.labels import NAME, ROLE
from deploy.servers.lock_holder import gone
from deploy.servers.release_image import lock_of
from deploy.servers.server import LockedError, Ticket

logger = logging.getLogger(__name__)


THE_LOCK, TICKET = "lock", "ticket"
EMPTY = "edge-toolchain-empty"
CONFLICT = 409


def take_lock(client: DockerClient, server: str, model: str, ticket: Ticket) -> None:
    """LockedError while another's run lives, or may."""
    name, labels = lock_of(model), {ROLE: THE_LOCK, NAME: model, TICKET: msgspec.json.encode(ticket).decode()}
    for _ in range(2):
        try:
            client.containers.create(_empty(client), "none", name=name, labels=labels)
            return
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
        _remove_if_gone(client, server, name, ticket)
    raise LockedError(f"{server}: somebody else took the lock meanwhile; try again")


def _remove_if_gone(client: DockerClient, server: str, name: str, ticket: Ticket) -> None:
    with suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        holder = msgspec.json.decode(found.labels[TICKET], type=Ticket)
        if holder.holder != ticket.holder and not gone(holder):
            raise LockedError(
                f"{server}: locked by {holder.who} on {holder.host} since {holder.since} ({holder.why}); if that run "
                f"is gone: toolchain unlock {server}"
            )
        logger.info(f"{server}: taking the lock of {holder.who}, whose run has ended without giving it back")
        found.remove(force=True)


def give_back(client: DockerClient, name: str, ticket: Ticket) -> None:
    """Nothing where another holds it."""
    with suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        if msgspec.json.decode(found.labels[TICKET], type=Ticket).holder == ticket.holder:
            found.remove(force=True)


def _empty(client: DockerClient) -> str:
    """An image of nothing, for a container that never runs."""
    try:
        return str(client.images.get(EMPTY).id)
    except docker.errors.ImageNotFound:
        content = io.BytesIO()
        tarfile.open(fileobj=content, mode="w").close()
        client.api.import_image_from_data(content.getvalue(), repository=EMPTY)
        return str(client.images.get(EMPTY).id)
