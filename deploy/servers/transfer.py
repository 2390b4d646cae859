"""Brings a release's image to a server's engine: what it lacks, checked when it is there."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import docker.errors
import msgspec
from docker import DockerClient

from deploy.docker.engine import is_same_architecture
from deploy.servers.inventory import Server
from deploy.servers.layer_archive import missing_from, packed
from deploy.servers.release_image import Parcel
from deploy.servers.server import ShipError
from deploy.servers.ssh import Shell
from toolchain.paths import home
from toolchain.records.storage import write_atomically

logger = logging.getLogger(__name__)


SPARE_BYTES = 64 << 20  # what an engine and its containers write meanwhile
EVERY_S = 1.0
PACKING = threading.Lock()  # servers that lack the same layers wait for one archive
# layers that are there, lowest first -> (how many of them the archive leaves out, the archive)
Packages = Callable[[int], tuple[int, Path]]
# registry -> the image's name there, where it then is
Pushed = Callable[[str], str]


class Source(NamedTuple):
    """packages, and a registry to go through in their stead, "" for none."""

    packages: Packages
    pushed: Pushed
    registry: str = ""


class Delivery:
    """there: the server's engine; source: where the image comes from."""

    def __init__(self, server: Server, there: DockerClient, shell: Shell, parcel: Parcel, source: Source) -> None:
        self._server, self._there, self._source = server, there, source
        self._shell, self._parcel, self._name = shell, parcel, server.name

    def check(self) -> None:
        """ShipError: another kind of device or of processor."""
        parcel, facts = self._parcel, self._there.info()
        if parcel.kind != self._server.kind:
            raise ShipError(
                f"{self._name} is a {self._server.kind} server, {parcel.tag} is for {parcel.kind}; ship the image for "
                "that device, or mend its kind in the inventory"
            )
        built, there = parcel.architecture, facts["Architecture"]
        if not is_same_architecture(built, there):
            raise ShipError(f"{self._name} is {there}, {parcel.tag} is for {built}; build it for that")
        if parcel.kind == "gpu" and "nvidia" not in facts.get("Runtimes", {}):
            raise ShipError(
                f"{self._name}: its engine has no nvidia runtime; install the NVIDIA Container Toolkit there"
            )

    def missing(self) -> tuple[int, int]:
        """(layers that are not there, their bytes unpacked)."""
        if self._is_there():
            return 0, 0
        present = self._present()
        return len(self._parcel.layers) - present, sum(self._parcel.sizes[present:])

    def send(self) -> int:
        """Bytes sent; the image is there afterwards, under its tag, or ShipError."""
        if self._is_there():
            self._tagged()
            return 0
        registry = self._source.registry
        sent = self._pulled(registry) if registry else self._sent(self._present())
        if not self._is_there() and not registry:  # an engine with another store takes whole images only
            logger.info(f"{self._name}: its engine does not take a part of an image; sending the whole")
            sent += self._sent(0)
        self.verify()
        self._tagged()
        layers_of(self._name, self._there)  # for a stick
        return sent

    def verify(self) -> None:
        """An image's id is the digest of its configuration, which lists the digests of its layers."""
        if not self._is_there():
            raise ShipError(f"{self._name}: {self._parcel.tag} did not arrive as it was sent ({self._parcel.id[:19]})")

    def _is_there(self) -> bool:
        try:
            found = self._there.images.get(self._parcel.id)
        except docker.errors.ImageNotFound:
            return False
        return tuple(found.attrs["RootFS"]["Layers"]) == self._parcel.layers

    def _tagged(self) -> None:
        repository, _, tag = self._parcel.tag.rpartition(":")
        self._there.images.get(self._parcel.id).tag(repository, tag)

    def _present(self) -> int:
        return missing_from(self._parcel.layers, layers_of(self._name, self._there))

    def _sent(self, present: int) -> int:
        parcel = self._parcel
        present, file = self._source.packages(present)
        size = file.stat().st_size
        self._room(self._there.info()["DockerRootDir"], sum(parcel.sizes[present:]))
        self._room(".", size)
        count = len(parcel.layers) - present
        logger.info(
            f"{self._name}: {count} of {len(parcel.layers)} layers are missing there, {size / 1e6:.1f} MB packed"
        )
        place, sent = self._shell.bring(file, Progress(self._name))
        refused = ""
        try:
            self._shell.run(f"docker -H unix://{self._server.socket} load -q -i {place}", timeout_s=600)
        except ShipError as error:
            refused = str(error)
        finally:
            self._shell.forget()
        if refused and present == 0 and not self._is_there():
            raise ShipError(refused)
        return sent

    def _pulled(self, registry: str) -> int:
        """0: what a registry sends is between it and the engine."""
        name = self._source.pushed(registry)
        logger.info(f"{self._name}: pulling {name}")
        self._room(self._there.info()["DockerRootDir"], self.missing()[1])
        self._there.images.pull(name)
        if self._is_there():
            self._tagged()
        self._there.images.remove(name)  # the registry's name for it, or what another put in its place
        return 0

    def _room(self, folder: str, needed: int) -> None:
        free = self._shell.free_bytes(folder)
        if free < needed + SPARE_BYTES:
            place, needed_mb = folder if folder != "." else "the home folder", (needed + SPARE_BYTES) / 1e6
            raise ShipError(
                f"{self._name}: {free / 1e6:.0f} MB free in {place} there, {needed_mb:.0f} MB needed; free some: ssh "
                f"{self._server.address} docker image prune"
            )


class Progress:
    """A line a second, for a log that several servers share."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, time.monotonic()

    def __call__(self, there: int, size: int) -> None:
        if there >= size or time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            logger.info(f"{self._name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB sent")


def packages_of(client: DockerClient, parcel: Parcel) -> Packages:
    """Packed from the image on an engine when they are asked for, and kept for the servers that come after."""

    def made(present: int) -> tuple[int, Path]:
        file = home() / "shipping" / f"{parcel.id.rpartition(':')[2][:24]}-{present}.tar.gz"
        with PACKING:
            if not file.is_file():
                logger.info(f"packing {parcel.tag} without its first {present} of {len(parcel.layers)} layers")
                packed(client.images.get(parcel.id), present, file)
        return present, file

    return made


def pushed_from(client: DockerClient, parcel: Parcel) -> Pushed:
    """Pushed once, for the servers that come after too."""
    done: dict[str, str] = {}

    def pushed(registry: str) -> str:
        with PACKING:
            if registry not in done:
                repository, _, tag = parcel.tag.rpartition(":")
                name = f"{registry}/{repository.rpartition('/')[2]}"
                logger.info(f"pushing {parcel.tag} to {name}")
                client.images.get(parcel.id).tag(name, tag)
                _check_pushed(client.images.push(name, tag, stream=True, decode=True), name)
                done[registry] = f"{name}:{tag}"
                client.images.remove(done[registry])  # the name only: the image has its own
            return done[registry]

    return pushed


def _check_pushed(lines: Iterable[Mapping[str, object]], name: str) -> None:
    """The engine tells a failure in the stream of what it does."""
    for line in lines:
        if "error" in line:
            raise ShipError(f"{name}: the registry did not take it: {str(line['error'])[:200]}")


def layers_of(server: str, there: DockerClient) -> list[Sequence[str]]:
    """What the images of a server are made of; kept, for a stick that is packed when it cannot be asked."""
    found = [one.attrs["RootFS"].get("Layers") or () for one in there.images.list(all=True)]
    write_atomically(_place(server), msgspec.json.encode(found))
    return found


def remembered(server: str) -> list[tuple[str, ...]]:
    """As it was last seen; none where it never was."""
    place = _place(server)
    return msgspec.json.decode(place.read_bytes(), type=list[tuple[str, ...]]) if place.is_file() else []


def _place(server: str) -> Path:
    return home() / "servers" / f"{server}.json"


def _nothing(_asked: object) -> Any:
    raise ShipError("the image is not there any more; ship it again: toolchain ship")


NOTHING = Source(_nothing, _nothing)  # for a release that is there already


def pruned(client: DockerClient, model_images: dict[str, str], keep: set[str]) -> list[str]:
    """Remove the images whose release is not in `keep`; those that a container still needs stay. The releases that
    went."""
    gone = []
    for image, release in model_images.items():
        if release in keep:
            continue
        with suppress(docker.errors.APIError):
            client.images.remove(image, force=False)
            gone.append(release)
    return gone
