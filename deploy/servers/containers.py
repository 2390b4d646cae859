"""A model's containers on a server's engine: its releases, and the socket holder in front of them.

Nothing is installed on the server. State lives in names, labels and two volumes. Servers get one of them, read-only: it
has the socket and the file `live`. The other, which no server gets, has trusted keys, signatures and the audit
(records.py).
"""

import time
from contextlib import AbstractContextManager, suppress
from typing import Any

import docker.errors
from docker import DockerClient
from docker.models.containers import Container
from docker.types import LogConfig, Mount

from deploy.containers.gpus import gpu_requests
from deploy.containers.publishing import has_secrets, secrets_mount, supports_secrets
from deploy.docker.labels import NAME, RELEASE, ROLE
from deploy.docker.sandbox import MEMORY_BYTES, RESTART, STATE, sandbox_settings, state_volume
from deploy.runtime.handover.socket_holder import LIVE
from deploy.servers.answers import translate_errors
from deploy.servers.inventory import ServerConfig
from deploy.servers.records import ServerRecords
from deploy.servers.release_image import container_name, socket_holder_name
from deploy.servers.server import ServerState, ShipError
from deploy.servers.trust_volume import TRUST_ROLE
from deploy.servers.volume_files import VolumeFiles
from toolchain.errors import printable

SOCKET_FOLDER = "/door"
RELEASE_CONTAINER, SOCKET_HOLDER = "shipped", "door"
CONTAINER_PORT = "8080/tcp"
# of every image of ours, for an engine that leaves out what OCI's image format does not have: Podman
HEALTH_CHECK = ("CMD", "python3", "-IS", "/app/deploy/runtime/healthcheck.py")
HEALTHY_S, DRAIN_S, POLL_S = 300.0, 15, 0.5


class DeployedContainers:
    """The containers of `model` on the engine of `server`. Raises ShipError for errors of the engine and of the
    link."""

    def __init__(self, server: ServerConfig, client: DockerClient, model: str) -> None:
        self.server, self.client, self.model = server, client, model
        self._files = VolumeFiles(client, socket_holder_name(model), SOCKET_FOLDER)
        self.records = ServerRecords(server, client, model, self._files)

    def translating_errors(self, what: str) -> AbstractContextManager[None]:
        return translate_errors(self.server, what)

    # what is there

    def read_state(self) -> ServerState:
        with self.translating_errors("state"):
            found = self.by_release()
            named = self._read_live()
            live = next((release for release, one in found.items() if one.name == named), "")
            healthy = {release: self.health(one)[0] for release, one in found.items()}
            return ServerState(live, healthy, tuple(self.images().values()))

    def _read_live(self) -> str:
        """The name of the container that may accept. ShipError: it is no name; a guess could stop what serves."""
        content = self._files.read(LIVE)
        try:
            return content.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise ShipError(
                f"{self.server.name}: {LIVE} there is no container's name ({content[:20]!r}), so nothing serves; "
                f"remove it there: docker exec {socket_holder_name(self.model)} python3 -c "
                f"'import os; os.remove(\"{SOCKET_FOLDER}/{LIVE}\")'"
            ) from error

    def by_release(self) -> dict[str, Container]:
        """By release."""
        wanted: dict[str, Any] = {"label": [f"{ROLE}={RELEASE_CONTAINER}", f"{NAME}={self.model}"]}
        return {
            one.labels[RELEASE]: one
            for one in self.client.containers.list(all=True, filters=wanted, ignore_removed=True)
        }

    def images(self) -> dict[str, str]:
        """Release by the id of its image; the newest last."""
        found = self.client.images.list(filters={"label": [f"{NAME}={self.model}"]})
        # all were created at the epoch (deploy/images/timestamps.py); an engine knows when it gave the tag
        found.sort(key=lambda one: str(one.attrs.get("Metadata", {}).get("LastTagTime", "")))
        return {str(one.id): one.labels[RELEASE] for one in found}

    def health(self, container: Container) -> tuple[bool, str]:
        """(whether it is ready, its output), by the health check of its own image, which knows about TLS and needs no
        secret."""
        if container.status != "running":
            return False, f"it is {container.status}"
        try:
            _, *look = (container.attrs["Config"].get("Healthcheck") or {}).get("Test") or HEALTH_CHECK
            code, said = container.exec_run(look)
        except docker.errors.APIError as error:
            return False, str(error.explanation or error)
        words = " ".join(bytes(said).decode(errors="replace").split())  # type: ignore[arg-type]  # no stream is asked for
        return code == 0, words[:300]

    # running a release

    def start(self, release: str, image: str) -> None:
        """Start it next to the active release; it gets the listening socket only once `live` names it."""
        name = container_name(self.model, release)
        with self.translating_errors("start"):
            self._ensure_socket_holder(image)
            with suppress(docker.errors.NotFound):
                found = self.client.containers.get(name)
                if found.attrs["Image"] == image:
                    found.start()  # nothing where it runs
                    return
                found.remove(force=True)
            if self._secrets and not supports_secrets(self.client.images.get(image).attrs):
                raise ShipError(
                    f"{self.server.name}: {release} supports neither TLS nor tokens; rebuild it: toolchain image"
                )
            serves = {
                "environment": {"DOOR_DIR": SOCKET_FOLDER, "CONTAINER_NAME": name, **self.server.environment},
                "device_requests": gpu_requests(self.client, image),
            }
            socket = Mount(SOCKET_FOLDER, socket_holder_name(self.model), type="volume", read_only=True)
            state = Mount(STATE, state_volume(self.model), type="volume")
            self._run(image, name, RELEASE_CONTAINER, [socket, state, *self._secrets], serves)

    @property
    def _secrets(self) -> list[Mount]:
        return [secrets_mount(self.server.secrets)] if self.server.secrets else []

    def has_expected_secrets(self, container: Container) -> bool:
        """Whether the container has the secrets that the inventory lists now."""
        return has_secrets(container.attrs, self._secrets, self.server.environment)

    def _ensure_socket_holder(self, image: str) -> None:
        """Start the socket holder. Its image is that of the first release shipped here, and later releases keep it."""
        name = socket_holder_name(self.model)
        with suppress(docker.errors.NotFound):
            self.client.containers.get(name).start()  # nothing where it runs
            return
        opens = {
            "command": ["door"],
            "environment": {"DOOR_DIR": SOCKET_FOLDER},
            "ports": {CONTAINER_PORT: self.server.port},
            "healthcheck": {"test": ["NONE"]},
        }
        socket = Mount(SOCKET_FOLDER, name, type="volume")
        self._run(image, name, SOCKET_HOLDER, [socket], opens)

    def _run(self, image: str, name: str, role: str, mounts: list[Mount], more: dict[str, Any]) -> None:
        memory = min(MEMORY_BYTES, int(self.client.info()["MemTotal"] * 0.9))
        settings = {
            "name": name,
            "labels": {ROLE: role},
            "mounts": mounts,
            "restart_policy": RESTART,
            "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            **sandbox_settings(memory),
            **more,
        }
        created = self.client.containers.create(image, **settings)
        try:
            created.start()
        except docker.errors.APIError:
            created.remove(force=True)  # for example, because the port is taken
            raise

    def wait_healthy(self, release: str) -> None:
        """Wait until it is certified and ready: a server whose certification fails never becomes ready."""
        name, end, server = container_name(self.model, release), time.monotonic() + HEALTHY_S, self.server.name
        with self.translating_errors("start"):
            while True:
                try:
                    found = self.client.containers.get(name)
                except docker.errors.NotFound as error:
                    raise ShipError(f"{server}: there is no container {name}") from error
                good, said = self.health(found)
                if good:
                    return
                if "failed: " in said or found.attrs["RestartCount"] > 1 or found.status in ("exited", "dead"):
                    raise ShipError(f"{server}: {release} refuses to serve there: {_last_log_line(found) or said}")
                if time.monotonic() > end:
                    raise ShipError(f"{server}: {release} was not ready within {HEALTHY_S:.0f} s: {said}")
                time.sleep(POLL_S)

    def switch(self, release: str) -> None:
        with self.translating_errors("switch"):
            self._files.write(LIVE, container_name(self.model, release).encode())

    def stop(self, release: str) -> None:
        with self.translating_errors("stop"), suppress(docker.errors.NotFound):
            found = self.client.containers.get(container_name(self.model, release))
            found.stop(timeout=DRAIN_S)
            found.remove(force=True)

    def read_logs(self, release: str, lines: int) -> str:
        with self.translating_errors("logs"):
            found = self.by_release().get(release)
            if found is None:
                raise ShipError(f"{self.server.name}: no container of {self.model} {release} there")
            return printable(found.logs(tail=lines).decode(errors="replace"))


def deployed_model_names(client: DockerClient) -> tuple[str, ...]:
    """The models with a socket holder on that engine."""
    found = client.containers.list(all=True, filters={"label": f"{ROLE}={SOCKET_HOLDER}"}, ignore_removed=True)
    return tuple(sorted({one.labels[NAME] for one in found}))


def audited_model_names(client: DockerClient) -> tuple[str, ...]:
    """The models whose audit that engine has: a first release that was refused left no more than that."""
    keepers = client.containers.list(all=True, filters={"label": f"{ROLE}={TRUST_ROLE}"}, ignore_removed=True)
    return tuple(sorted({*deployed_model_names(client), *(keeper.labels[NAME] for keeper in keepers)}))


def _last_log_line(container: Container) -> str:
    said = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    return said[-1][:400] if said else ""
