"""Sends the missing layers of a release's image to a server's engine, and verifies the result."""

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
from deploy.servers.inventory import ServerConfig
from deploy.servers.layer_archive import count_present_layers, pack_image
from deploy.servers.release_image import ReleaseImage
from deploy.servers.server import ShipError
from deploy.servers.ssh import Shell
from toolchain.paths import home
from toolchain.records.storage import write_atomically

logger = logging.getLogger(__name__)


SPARE_BYTES = 64 << 20  # for what the engine and its containers write meanwhile
LOG_INTERVAL_S = 1.0
PACK_LOCK = threading.Lock()  # servers that lack the same layers wait for one archive
# layers that are there, lowest first -> (how many of them the archive leaves out, the archive)
ArchiveProvider = Callable[[int], tuple[int, Path]]
# registry -> the image's name there, where it then is
RegistryPush = Callable[[str], str]


class ReleaseSource(NamedTuple):
    """Where an image comes from: archives of its layers or, if `registry` is not "", that registry."""

    archive_without: ArchiveProvider
    push_to: RegistryPush
    registry: str = ""


class ImageTransfer:
    """there: the server's engine; source: where the image comes from."""

    def __init__(
        self, server: ServerConfig, there: DockerClient, shell: Shell, image: ReleaseImage, source: ReleaseSource
    ) -> None:
        self._server, self._engine, self._source = server, there, source
        self._shell, self._image, self._name = shell, image, server.name

    def check(self) -> None:
        """ShipError for the wrong kind of device or processor."""
        image, facts = self._image, self._engine.info()
        if image.kind != self._server.kind:
            raise ShipError(
                f"{self._name} is a {self._server.kind} server, {image.tag} is for {image.kind}; ship the image for "
                "that device, or correct `kind` in the inventory"
            )
        built, there = image.architecture, facts["Architecture"]
        if not is_same_architecture(built, there):
            raise ShipError(f"{self._name} is {there}, {image.tag} is for {built}; build it for that")
        if image.kind == "gpu" and "nvidia" not in facts.get("Runtimes", {}):
            raise ShipError(
                f"{self._name}: its engine has no nvidia runtime; install the NVIDIA Container Toolkit there"
            )

    def missing_layers(self) -> tuple[int, int]:
        """(number of missing layers, their unpacked size in bytes)."""
        if self._is_present():
            return 0, 0
        present = self._count_present()
        return len(self._image.content.layers) - present, sum(self._image.content.layer_bytes[present:])

    def send(self) -> int:
        """Send the image and tag it; the bytes sent. ShipError if it does not arrive intact."""
        if self._is_present():
            self._tag()
            return 0
        registry = self._source.registry
        sent = self._pull(registry) if registry else self._send_archive(self._count_present())
        if not self._is_present() and not registry:  # other image stores take whole images only
            logger.info(f"{self._name}: its engine does not accept partial images; sending the whole image")
            sent += self._send_archive(0)
        self.verify()
        self._tag()
        record_layers(self._name, self._engine)  # for later offline bundles
        return sent

    def verify(self) -> None:
        """An image's id is the digest of its configuration, which lists the digests of its layers."""
        if not self._is_present():
            raise ShipError(
                f"{self._name}: {self._image.tag} did not arrive intact ({self._image.content.config[:19]})"
            )

    def _is_present(self) -> bool:
        try:
            found = self._engine.images.get(self._image.content.config)
        except docker.errors.ImageNotFound:
            return False
        return tuple(found.attrs["RootFS"]["Layers"]) == self._image.content.layers

    def _tag(self) -> None:
        repository, _, tag = self._image.tag.rpartition(":")
        self._engine.images.get(self._image.content.config).tag(repository, tag)

    def _count_present(self) -> int:
        return count_present_layers(self._image.content.layers, record_layers(self._name, self._engine))

    def _send_archive(self, present: int) -> int:
        image = self._image
        present, file = self._source.archive_without(present)
        size = file.stat().st_size
        self._check_space(self._engine.info()["DockerRootDir"], sum(image.content.layer_bytes[present:]))
        self._check_space(".", size)
        count = len(image.content.layers) - present
        logger.info(
            f"{self._name}: {count} of {len(image.content.layers)} layers are missing there, {size / 1e6:.1f} MB packed"
        )
        place, sent = self._shell.upload(file, ProgressLog(self._name))
        refused = ""
        try:
            self._shell.run(f"docker -H unix://{self._server.socket} load -q -i {place}", timeout_s=600)
        except ShipError as error:
            refused = str(error)
        finally:
            self._shell.remove_uploads()
        if refused and present == 0 and not self._is_present():
            raise ShipError(refused)
        return sent

    def _pull(self, registry: str) -> int:
        """Pull it from the registry; 0, since this machine sends nothing."""
        name = self._source.push_to(registry)
        logger.info(f"{self._name}: pulling {name}")
        self._check_space(self._engine.info()["DockerRootDir"], self.missing_layers()[1])
        self._engine.images.pull(name)
        if self._is_present():
            self._tag()
        self._engine.images.remove(name)  # the registry's name for it, or what another put in its place
        return 0

    def _check_space(self, folder: str, needed: int) -> None:
        free = self._shell.free_bytes(folder)
        if free < needed + SPARE_BYTES:
            place, needed_mb = folder if folder != "." else "the home folder", (needed + SPARE_BYTES) / 1e6
            raise ShipError(
                f"{self._name}: {free / 1e6:.0f} MB free in {place} there, {needed_mb:.0f} MB needed; free some: ssh "
                f"{self._server.address} docker image prune"
            )


class ProgressLog:
    """Logs at most one line a second, for a log that several servers share."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, time.monotonic()

    def __call__(self, there: int, size: int) -> None:
        if there >= size or time.monotonic() - self._last >= LOG_INTERVAL_S:
            self._last = time.monotonic()
            logger.info(f"{self._name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB sent")


def archive_provider(client: DockerClient, image: ReleaseImage) -> ArchiveProvider:
    """Packs archives of the image on first use, and keeps them for the other servers."""

    def provide(present: int) -> tuple[int, Path]:
        file = home() / "shipping" / f"{image.content.config.rpartition(':')[2][:24]}-{present}.tar.gz"
        with PACK_LOCK:
            if not file.is_file():
                logger.info(f"packing {image.tag} without its first {present} of {len(image.content.layers)} layers")
                pack_image(client.images.get(image.content.config), present, file)
        return present, file

    return provide


def registry_push(client: DockerClient, image: ReleaseImage) -> RegistryPush:
    """Pushes the image once per registry."""
    done: dict[str, str] = {}

    def push_to(registry: str) -> str:
        with PACK_LOCK:
            if registry not in done:
                repository, _, tag = image.tag.rpartition(":")
                name = f"{registry}/{repository.rpartition('/')[2]}"
                logger.info(f"pushing {image.tag} to {name}")
                client.images.get(image.content.config).tag(name, tag)
                _check_pushed(client.images.push(name, tag, stream=True, decode=True), name)
                done[registry] = f"{name}:{tag}"
                client.images.remove(done[registry])  # the name only: the image has its own
            return done[registry]

    return push_to


def _check_pushed(lines: Iterable[Mapping[str, object]], name: str) -> None:
    """ShipError for a failure, which the engine reports in its progress stream."""
    for line in lines:
        if "error" in line:
            raise ShipError(f"{name}: the registry rejected it: {str(line['error'])[:200]}")


def record_layers(server: str, there: DockerClient) -> list[Sequence[str]]:
    """The layers of a server's images; also stored, for offline bundles packed while the server cannot be reached."""
    found = [one.attrs["RootFS"].get("Layers") or () for one in there.images.list(all=True)]
    write_atomically(_layers_file(server), msgspec.json.encode(found))
    return found


def last_known_layers(server: str) -> list[tuple[str, ...]]:
    """The layers of a server's images when it was last reached; empty if it never was."""
    place = _layers_file(server)
    return msgspec.json.decode(place.read_bytes(), type=list[tuple[str, ...]]) if place.is_file() else []


def _layers_file(server: str) -> Path:
    return home() / "servers" / f"{server}.json"


def _unavailable(_asked: object) -> Any:
    raise ShipError("the image is no longer there; ship it again: toolchain ship")


NO_SOURCE = ReleaseSource(_unavailable, _unavailable)  # for a release whose image is already there


def prune_images(client: DockerClient, model_images: dict[str, str], keep: set[str]) -> list[str]:
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
