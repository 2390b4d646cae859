"""An edge server as a Docker Engine behind ssh: see EdgeServer."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import docker.errors
import msgspec
from docker import DockerClient

from deploy.docker.ssh import tunnel_to
from deploy.images.signatures import Signature, check_signature, read_signed_at
from deploy.servers.answers import bound_answers, translate_errors
from deploy.servers.containers import DeployedContainers
from deploy.servers.inventory import RolloutPolicy, ServerConfig
from deploy.servers.lock import release_lock, take_lock
from deploy.servers.release_image import ReleaseImage, is_release, lock_name
from deploy.servers.server import AuditEntry, GateResult, LockHolder, ServerState, ShipError
from deploy.servers.ssh import Shell
from deploy.servers.transfer import ImageTransfer, ReleaseSource, prune_images
from toolchain.errors import RecordError, printable
from toolchain.records.certificate import short_key

logger = logging.getLogger(__name__)


class ServerConnection(msgspec.Struct, frozen=True):
    """A server whose engine answers. url: of the local socket that is tunnelled to it."""

    server: ServerConfig
    client: DockerClient
    url: str


class DockerServer:
    """trust: accept the image's signing key even if the server does not know it yet; first_trust: accept it where the
    server knows none yet."""

    def __init__(
        self,
        connection: ServerConnection,
        image: ReleaseImage,
        source: ReleaseSource,
        policy: RolloutPolicy,
        trust: bool,
        first_trust: bool = True,
    ) -> None:
        self.name, self._client, self._url = connection.server.name, connection.client, connection.url
        self._image, self._policy, self._trust = image, policy, trust
        self._first_trust = first_trust
        self._signer = ""  # once check() has found that it may be trusted
        self._containers = DeployedContainers(connection.server, connection.client, image.model)
        shell = Shell(connection.server.address)
        self._transfer = ImageTransfer(connection.server, connection.client, shell, image, source)

    def lock(self, holder: LockHolder) -> None:
        with self._containers.translating_errors("lock"):
            take_lock(self._client, self.name, self._image.model, holder)

    def unlock(self, holder: LockHolder) -> None:
        with self._containers.translating_errors("unlock"):
            release_lock(self._client, lock_name(self._image.model), holder)

    def read_state(self) -> ServerState:
        return self._containers.read_state()

    def check(self, release: str) -> None:
        """A server that trusts no key yet trusts that of the first release shipped to it from where it was built."""
        signed = self._read_signature()
        self._check_signer(signed.key)
        self._signer = signed.key
        with self._containers.translating_errors("check"):
            self._transfer.check()
            found = self._containers.by_release().get(release)
            if found is not None and not is_release(self._client, found.attrs["Image"], self._image):
                raise ShipError(
                    f"{self.name}: {release} there is another image than {self._image.tag} here, and releases are "
                    "immutable; build this one under a new name: --release"
                )
            if found is not None and not self._containers.has_expected_secrets(found):
                raise ShipError(
                    f"{self.name}: {release} runs there with other secrets than the inventory lists now, and running "
                    "containers are not changed; ship another release"
                )

    def newer_release(self, release: str) -> str:  # noqa: ARG002
        with self._containers.translating_errors("check"):
            newest, at = self._containers.records.newest_shipped(self._containers.read_state().live)
        mine = read_signed_at(self._image.signature, self._image.tag)
        return newest if at > mine else ""  # an older image of the very same release is older, too

    def missing_layers(self) -> tuple[int, int]:
        with self._containers.translating_errors("check"):
            return self._transfer.missing_layers()

    def send(self, release: str) -> int:  # noqa: ARG002  # the protocol's signature: the image is the release
        with self._containers.translating_errors("send"):
            sent = self._transfer.send()
            self._containers.records.keep_signature(self._image.release, self._image.signature)
            return sent

    def verify(self, release: str) -> None:  # noqa: ARG002
        with self._containers.translating_errors("verify"):
            self._transfer.verify()

    def _read_signature(self) -> Signature:
        """Of just this image and release. ShipError: none, or changed."""
        image = self._image
        try:
            return check_signature(image.signature, image.content, image.labels, image.tag)
        except RecordError as error:
            raise ShipError(f"{self.name}: {error}") from error

    def _check_signer(self, key: str) -> None:
        """ShipError for a key that is not trusted there."""
        tag, trusted = self._image.tag, () if self._trust else self._containers.records.trusted_keys()
        if self._trust or key in trusted:
            return
        if trusted:
            known = ", ".join(short_key(one) for one in trusted)
            raise ShipError(
                f"{self.name}: {tag} is signed by {short_key(key)}, which is not trusted there "
                f"(trusted: {known}); if you trust it: --trust"
            )
        if not self._first_trust:
            raise ShipError(
                f"{self.name} trusts no key yet, and {tag} is signed by {short_key(key)}, not by this machine; compare "
                "that with the key that `toolchain pack` printed, and if it is the same: --trust"
            )

    def start(self, release: str) -> None:
        with self._containers.translating_errors("start"):
            # one that an earlier run started, or the one that serves
            found = self._containers.by_release().get(release)
            image = str(found.attrs["Image"]) if found else self._transfer.engine_id()
            is_ours = not found or is_release(self._client, image, self._image)
        self._containers.start(release, image)
        if is_ours and self._signer:
            self._containers.records.trust_key(self._signer, replace_unreadable=self._trust)
            self._containers.records.keep_signature(release, self._image.signature)

    def wait_healthy(self, release: str) -> None:
        self._containers.wait_healthy(release)

    def gate(self, release: str, against: str) -> GateResult:  # noqa: ARG002
        """Run `toolchain gate` in a process of its own, with the server's engine as DOCKER_HOST, so that several
        servers can be gated at once."""
        with self._containers.translating_errors("gate"):
            older = str(self._containers.by_release()[against].attrs["Image"])
            baseline = next(iter(self._client.images.get(older).tags), older)
        words = [sys.executable, "-m", "toolchain", "gate", self._image.tag, f"--against={baseline}"]
        words += [f"--minutes={self._policy.minutes:g}", "--anchor=none"]
        words += [f"--budget={self._policy.budget:g}"] if self._policy.budget else []
        environment = {**os.environ, "DOCKER_HOST": self._url}
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as asked:
            assert asked.stderr
            assert asked.stdout
            last = ""
            for line in asked.stderr:
                last = printable(line.strip()) or last
                logger.info(f"{self.name}: {printable(line.rstrip())}")
            said = asked.stdout.read()
        return _parse_gate_output(self.name, asked.returncode, said, last)

    def switch(self, release: str) -> None:
        self._containers.switch(release)

    def stop(self, release: str) -> None:
        self._containers.stop(release)

    def prune(self, keep: frozenset[str]) -> None:
        with self._containers.translating_errors("prune"):
            records, images = self._containers.records, self._containers.images()
            shipped = {image: release for image, release in images.items() if records.was_shipped(release, image)}
            for release in prune_images(self._client, shipped, set(keep)):
                logger.info(f"{self.name}: removed the image of {release}")

    def append_audit(self, line: AuditEntry) -> None:
        self._containers.records.append_audit(line)


def _parse_gate_output(name: str, code: int, said: str, last: str) -> GateResult:
    """The result that the gate printed. ShipError if it printed none."""
    lines = said.strip().splitlines()
    try:
        told = msgspec.json.decode(lines[-1] if lines else "")
        return GateResult(told["verdict"], told["reason"])
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ShipError(f"{name}: the gate failed there (exit {code}): {last.removeprefix('toolchain: ')}") from error


@contextmanager
def connect_server(server: ServerConfig) -> Iterator[ServerConnection]:
    """A connection to the server's engine, through an ssh tunnel that lasts as long as the block. Whatever goes wrong
    inside the block is a ToolchainError."""
    with translate_errors(server, "server"), tunnel_to(server.address, server.socket) as url:
        try:
            client = DockerClient(base_url=url, timeout=120)
            bound_answers(client, server)
            client.ping()
        except (docker.errors.DockerException, OSError, ValueError) as error:
            raise ShipError(
                f"{server.name}: no Docker Engine at {server.socket} there ({printable(str(error)[:120])}); try: ssh "
                f"{server.address} docker version"
            ) from error
        try:
            yield ServerConnection(server, client, url)
        finally:
            client.close()
