"""A lock on a server: a container that never runs, since an engine gives a name out once. A label records its holder.

Where it ran, a killed holder is recognized by its process (lock_holder.py). Elsewhere that cannot be known, and a
person has to remove the lock.
"""

import logging
from contextlib import suppress

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.containers import Container

from deploy.docker.idle_container import create_idle_container
from deploy.docker.labels import NAME, ROLE
from deploy.servers.answers import decode_answer
from deploy.servers.lock_holder import has_ended
from deploy.servers.release_image import lock_name
from deploy.servers.server import LockedError, LockHolder, ShipError

logger = logging.getLogger(__name__)


LOCK_ROLE, HOLDER_LABEL = "lock", "ticket"
CONFLICT = 409


def take_lock(client: DockerClient, server: str, model: str, holder: LockHolder) -> None:
    """LockedError while the run of another holder is, or may be, alive."""
    name, labels = lock_name(model), {ROLE: LOCK_ROLE, NAME: model, HOLDER_LABEL: msgspec.json.encode(holder).decode()}
    for _ in range(2):
        try:
            create_idle_container(client, name, labels, ())
            return
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
        _remove_if_gone(client, server, name, holder)
    raise LockedError(f"{server}: another run took the lock meanwhile; try again")


def _remove_if_gone(client: DockerClient, server: str, name: str, holder: LockHolder) -> None:
    with suppress(docker.errors.NotFound):
        found = client.containers.get(name)
        current = _read_holder(found, server)
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
        if _read_holder(found, name).holder == holder.holder:
            found.remove(force=True)


def locked_models(client: DockerClient) -> tuple[str, ...]:
    """The models with a lock on that engine; a lock without its labels is not among them."""
    found = client.containers.list(all=True, filters={"label": f"{ROLE}={LOCK_ROLE}"}, ignore_removed=True)
    return tuple(sorted({lock.labels.get(NAME, "") for lock in found} - {""}))


def _read_holder(lock: Container, server: str) -> LockHolder:
    """LockedError: the lock does not say, so that it may be anybody's."""
    try:
        return decode_answer(lock.labels.get(HOLDER_LABEL, "").encode(), LockHolder, "its holder")
    except ShipError as error:
        raise LockedError(
            f"{server}: locked by nobody knows whom ({lock.name}: {error}); if no other run ships there: toolchain "
            f"unlock {server}"
        ) from error
