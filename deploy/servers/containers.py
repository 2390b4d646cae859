"""A model's containers on a server's engine: its releases, and the socket holder in front of them.

Nothing is installed on the server. State lives in names, labels and one volume, which has the socket, the file `live`
and the audit.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.containers import Container
from docker.types import LogConfig, Mount

from deploy.containers.gpus import gpu_requests
from deploy.containers.publishing import has_secrets, secrets_mount, supports_secrets
from deploy.docker.engine import explain_error
from deploy.docker.labels import NAME, RELEASE, ROLE
from deploy.docker.sandbox import MEMORY_BYTES, RESTART, STATE, sandbox_settings, state_volume
from deploy.images.signatures import read_signed_at
from deploy.runtime.handover.socket_holder import LIVE
from deploy.servers.inventory import ServerConfig
from deploy.servers.release_image import container_name, docker_name, socket_holder_name
from deploy.servers.server import AuditEntry, ServerState, ShipError
from deploy.servers.volume_files import VolumeFiles

SOCKET_FOLDER, AUDIT, TRUSTED = "/door", "audit.jsonl", "trusted.json"
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

    @contextmanager
    def translating_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.DockerException as error:
            raise ShipError(f"{self.server.name}: {what}: {explain_error(error, self.server.address)}") from error
        except OSError as error:  # requests' own errors: the tunnel was cut
            raise ShipError(
                f"{self.server.name}: {what}: the link to its engine is cut ({type(error).__name__})"
            ) from error

    # what is there

    def read_state(self) -> ServerState:
        with self.translating_errors("state"):
            found = self.by_release()
            named = self._files.read(LIVE).strip()
            live = next((release for release, one in found.items() if one.name == named), "")
            healthy = {release: self.health(one)[0] for release, one in found.items()}
            return ServerState(live, healthy, tuple(self.images().values()))

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
            state = Mount(STATE, state_volume(self.model), type="volume")
            self._run(image, name, RELEASE_CONTAINER, [state, *self._secrets], serves)

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
        self._run(image, name, SOCKET_HOLDER, [], opens)

    def _run(self, image: str, name: str, role: str, mounts: list[Mount], more: dict[str, Any]) -> None:
        memory = min(MEMORY_BYTES, int(self.client.info()["MemTotal"] * 0.9))
        settings = {
            "name": name,
            "labels": {ROLE: role},
            "mounts": [Mount(SOCKET_FOLDER, socket_holder_name(self.model), type="volume"), *mounts],
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
            return found.logs(tail=lines).decode(errors="replace")

    # what is stored on its volume

    def trusted_keys(self) -> tuple[str, ...]:
        """The keys whose releases may run there; empty before the first release."""
        with self.translating_errors("trust"):
            found = self._files.read(TRUSTED)
            return msgspec.json.decode(found, type=tuple[str, ...]) if found else ()

    def trust_key(self, release: str, signature: bytes, key: str) -> None:
        """Trust `key` from now on, and keep the release's signature for a later rollback."""
        with self.translating_errors("trust"):
            known = self.trusted_keys()
            if key not in known:
                self._files.write(TRUSTED, msgspec.json.encode((*known, key)))
            self._files.write(_signature_file(release), signature)

    def read_signature(self, release: str) -> bytes:
        """The stored signature; b"" if there is none."""
        with self.translating_errors("trust"):
            return self._files.read(_signature_file(release)).encode()

    def newest_shipped(self) -> tuple[str, str]:
        """(release, when it was signed) of the later signed of two: the one that serves, and the one that was shipped
        last by the audit, from which a rollback may have gone back. ("", "") for none."""
        shipped = (note for note in reversed(self.read_audit()) if note.what.startswith("ship: "))
        last = next((note.release for note in shipped if note.outcome == "live"), "")
        signed = {
            release: read_signed_at(self.read_signature(release), f"{self.server.name}: the signature of {release}")
            for release in {last, self.read_state().live} - {""}
        }
        return max(signed.items(), key=lambda one: one[1], default=("", ""))

    def append_audit(self, line: AuditEntry) -> None:
        with self.translating_errors("note"):
            self._files.write(AUDIT, self._files.read(AUDIT).encode() + msgspec.json.encode(line) + b"\n")

    def read_audit(self) -> tuple[AuditEntry, ...]:
        with self.translating_errors("audit"):
            return tuple(msgspec.json.decode(line, type=AuditEntry) for line in self._files.read(AUDIT).splitlines())


def _signature_file(release: str) -> str:
    return f"signed-{docker_name(release)}.json"


def deployed_model_names(client: DockerClient) -> tuple[str, ...]:
    """The models with a socket holder on that engine."""
    found = client.containers.list(all=True, filters={"label": f"{ROLE}={SOCKET_HOLDER}"}, ignore_removed=True)
    return tuple(sorted({one.labels[NAME] for one in found}))


def _last_log_line(container: Container) -> str:
    said = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    return said[-1][:400] if said else ""
