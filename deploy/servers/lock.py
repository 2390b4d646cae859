"""A lock on a server: a container that never runs, since an engine gives a name out once. A label records its holder.

On the host that it ran on, a killed holder is recognized by its process id. For another host that cannot be known, and
a person has to remove the lock.
"""

import io
import logging
import tarfile
from contextlib import suppress

import docker.errors
import msgspec
from docker import DockerClient

from deploy.docker.labels import NAME, ROLE
from deploy.servers.lock_holder import has_ended
from deploy.servers.release_image import lock_name
from deploy.servers.server import LockedError, LockHolder

logger = logging.getLogger(__name__)


LOCK_ROLE, HOLDER_LABEL = "lock", "ticket"
EMPTY = "edge-toolchain-empty"
CONFLICT = 409


def take_lock(client: DockerClient, server: str, model: str, holder: LockHolder) -> None:
    """LockedError while the run of another holder is, or may be, alive."""
    name, labels = lock_name(model), {ROLE: LOCK_ROLE, NAME: model, HOLDER_LABEL: msgspec.json.encode(holder).decode()}
    for _ in range(2):
        try:
            client.containers.create(_empty(client), "none", name=name, labels=labels)
            return
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
        _remove_if_gone(client, server, name, holder)
    raise LockedError(f"{server}: another run took the lock meanwhile; try again")


def _remove_if_gone(client: DockerClient, server: str, name: str, holder: LockHolder) -> None:
    with suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        current = msgspec.json.decode(found.labels[HOLDER_LABEL], type=LockHolder)
        if current.holder != holder.holder and not has_ended(current):
            raise LockedError(
                f"{server}: locked by {current.who} on {current.host} since {current.since} ({current.why}); if that "
                f"run is gone: toolchain unlock {server}"
            )
        logger.info(f"{server}: taking the lock of {current.who}, whose run ended without releasing it")
        found.remove(force=True)


def release_lock(client: DockerClient, name: str, holder: LockHolder) -> None:
    """Does nothing if another run holds it."""
    with suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        if msgspec.json.decode(found.labels[HOLDER_LABEL], type=LockHolder).holder == holder.holder:
            found.remove(force=True)


def _empty(client: DockerClient) -> str:
    """An empty image, for a container that never runs."""
    try:
        return str(client.images.get(EMPTY).id)
    except docker.errors.ImageNotFound:
        content = io.BytesIO()
        tarfile.open(fileobj=content, mode="w").close()
        client.api.import_image_from_data(content.getvalue(), repository=EMPTY)
        return str(client.images.get(EMPTY).id)
