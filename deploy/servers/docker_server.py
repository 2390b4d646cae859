"""An edge server as a Docker Engine behind ssh: see Site."""

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
from deploy.images.signatures import Signature, check_signature
from deploy.servers.containers import Residents
from deploy.servers.inventory import Policy, Server
from deploy.servers.lock import give_back, take_lock
from deploy.servers.release_image import Parcel, lock_of
from deploy.servers.server import Judged, Note, ShipError, State, Ticket
from deploy.servers.ssh import Shell
from deploy.servers.transfer import Delivery, Source, pruned
from toolchain.errors import RecordError
from toolchain.records.certificate import short_key

logger = logging.getLogger(__name__)


class Reached(msgspec.Struct, frozen=True):
    """A server whose engine answers. url: of a socket here that leads to it."""

    server: Server
    client: DockerClient
    url: str


class DockerSite:
    """trust: the key of the parcel, also where it is not known yet."""

    def __init__(self, reached: Reached, parcel: Parcel, source: Source, policy: Policy, trust: bool) -> None:
        self.name, self._client, self._url = reached.server.name, reached.client, reached.url
        self._parcel, self._policy, self._trust = parcel, policy, trust
        self._homes = Residents(reached.server, reached.client, parcel.model)
        shell = Shell(reached.server.address)
        self._delivery = Delivery(reached.server, reached.client, shell, parcel, source)

    def lock(self, ticket: Ticket) -> None:
        with self._homes.explained("lock"):
            take_lock(self._client, self.name, self._parcel.model, ticket)

    def unlock(self, ticket: Ticket) -> None:
        with self._homes.explained("unlock"):
            give_back(self._client, lock_of(self._parcel.model), ticket)

    def state(self) -> State:
        return self._homes.state()

    def check(self, release: str) -> None:
        """A server that trusts nobody yet trusts the first who brings it a release."""
        self._signed(self._homes.trusted())
        with self._homes.explained("check"):
            self._delivery.check()
            found = self._homes.shipped().get(release)
            if found is not None and found.attrs["Image"] != self._parcel.id:
                raise ShipError(
                    f"{self.name}: {release} there is another image than {self._parcel.tag} here, and a release does "
                    "not change; give this one a name of its own: --release"
                )
            if found is not None and not self._homes.is_closed_so(found):
                raise ShipError(
                    f"{self.name}: {release} runs there with other secrets than the inventory says now, and what "
                    "runs is not changed; ship another release"
                )

    def missing(self) -> tuple[int, int]:
        with self._homes.explained("check"):
            return self._delivery.missing()

    def send(self, release: str) -> int:  # noqa: ARG002  # Site's shape: the parcel is the release
        with self._homes.explained("send"):
            return self._delivery.send()

    def verify(self, release: str) -> None:  # noqa: ARG002
        with self._homes.explained("verify"):
            self._delivery.verify()

    def _signed(self, trusted: tuple[str, ...]) -> Signature:
        try:
            found = check_signature(self._parcel.signature, self._parcel.id, self._parcel.tag)
        except RecordError as error:
            raise ShipError(f"{self.name}: {error}") from error
        if trusted and found.key not in trusted and not self._trust:
            known = ", ".join(short_key(key) for key in trusted)
            raise ShipError(
                f"{self.name}: {self._parcel.tag} is signed by {short_key(found.key)}, who is not trusted there "
                f"({known} is); if that is right: --trust"
            )
        return found

    def start(self, release: str) -> None:
        with self._homes.explained("start"):
            found = self._homes.shipped().get(release)  # one that an earlier run started, or the one that serves
        image = str(found.attrs["Image"]) if found else self._parcel.id
        self._homes.start(release, image)
        if image == self._parcel.id:
            signed = self._signed(())
            self._homes.trust(release, self._parcel.signature, signed.key)

    def wait_healthy(self, release: str) -> None:
        self._homes.wait_healthy(release)

    def gate(self, release: str, against: str) -> Judged:  # noqa: ARG002
        """By the gate's own command, with the server's engine as its own: many servers are judged at once."""
        with self._homes.explained("gate"):
            older = str(self._homes.shipped()[against].attrs["Image"])
            baseline = next(iter(self._client.images.get(older).tags), older)
        words = [sys.executable, "-m", "toolchain", "gate", self._parcel.tag, f"--against={baseline}"]
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
                last = line.strip() or last
                logger.info(f"{self.name}: {line.rstrip()}")
            said = asked.stdout.read()
        return _judged(self.name, asked.returncode, said, last)

    def switch(self, release: str) -> None:
        self._homes.switch(release)

    def stop(self, release: str) -> None:
        self._homes.stop(release)

    def prune(self, keep: frozenset[str]) -> None:
        with self._homes.explained("prune"):
            for release in pruned(self._client, self._homes.images(), set(keep)):
                logger.info(f"{self.name}: removed the image of {release}")

    def note(self, line: Note) -> None:
        self._homes.note(line)


def _judged(name: str, code: int, said: str, last: str) -> Judged:
    """What the gate's command said. ShipError: it could not judge."""
    lines = said.strip().splitlines()
    try:
        told = msgspec.json.decode(lines[-1] if lines else "")
        return Judged(told["verdict"], told["reason"])
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ShipError(
            f"{name}: the gate could not judge there (exit {code}): {last.removeprefix('toolchain: ')}"
        ) from error


@contextmanager
def reached(server: Server) -> Iterator[Reached]:
    """The server, for as long as the tunnel to its engine stands."""
    with tunnel_to(server.address, server.socket) as url:
        try:
            client = DockerClient(base_url=url, timeout=120)
            client.ping()
        except (docker.errors.DockerException, OSError) as error:
            raise ShipError(
                f"{server.name}: no Docker Engine at {server.socket} there ({str(error)[:120]}); try: ssh "
                f"{server.address} docker version"
            ) from error
        try:
            yield Reached(server, client, url)
        finally:
            client.close()
