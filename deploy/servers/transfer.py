"""Sends the missing layers of a release's image to a server's engine, and verifies the result."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.engine import is_same_architecture
from deploy.docker.labels import NAME, read_release_labels
from deploy.images.content import image_layers, uses_containerd_store
from deploy.servers.inventory import ServerConfig
from deploy.servers.layer_archive import ARCHIVE_CHECKS, count_present_layers, pack_image
from deploy.servers.release_image import ReleaseImage, find_release, require_release
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
        """ShipError for the wrong kind of device or processor, and for a name that is another's there."""
        self._check_name()
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

    def _check_name(self) -> None:
        try:
            there = self._engine.images.get(self._image.tag)
        except docker.errors.ImageNotFound:
            return
        if there.labels.get(NAME) != self._image.model:
            raise ShipError(
                f"{self._name}: {self._image.tag} is the name of another image there, {there.short_id}, which is not "
                f"of {self._image.model}; build this one under another name: toolchain image --tag"
            )

    def missing_layers(self) -> tuple[int, int]:
        """(number of missing layers, their unpacked size in bytes)."""
        if self._find():
            return 0, 0
        present = self._count_present()
        return len(self._image.content.layers) - present, sum(self._image.content.layer_bytes[present:])

    def send(self) -> int:
        """Send the image and tag it; the bytes sent. ShipError if it does not arrive intact."""
        if self._find():
            self._tag()
            return 0
        registry = self._source.registry
        sent = self._pull(registry) if registry else self._send_archive(self._count_present())
        if not self._find() and not registry:  # layers that are kept in another form than they were sent in
            logger.info(f"{self._name}: its engine does not accept this partial image; sending the whole image")
            sent += self._send_archive(0)
        self.verify()
        self._tag()
        record_layers(self._name, self._engine)  # for later offline bundles
        return sent

    def verify(self) -> None:
        """ShipError: the image that was signed is not there, whole, under any id."""
        self._require()

    def engine_id(self) -> str:
        """What the engine there calls the image."""
        return str(self._require().id)

    def _require(self) -> Image:
        found = self._find()
        if found is None:
            raise ShipError(
                f"{self._name}: {self._image.tag} did not arrive intact ({self._image.content.config[:19]})"
            )
        if read_release_labels(found.labels, self._image.tag) != self._image.labels:
            raise ShipError(f"{self._name}: the labels of {self._image.tag} there are not those that were signed")
        return found

    def _find(self) -> Image | None:
        return find_release(self._engine, self._image)

    def _tag(self) -> None:
        repository, _, tag = self._image.tag.rpartition(":")
        self._require().tag(repository, tag)

    def _count_present(self) -> int:
        return count_present_layers(self._image.content.layers, record_layers(self._name, self._engine))

    def _send_archive(self, present: int) -> int:
        content = self._image.content
        present, file = self._source.archive_without(present)
        ARCHIVE_CHECKS.check(file, content, present)
        size = file.stat().st_size
        self._check_engine_space(sum(content.layer_bytes[present:]))
        self._check_space(".", size)
        count = len(content.layers) - present
        logger.info(
            f"{self._name}: {count} of {len(content.layers)} layers are missing there, {size / 1e6:.1f} MB packed"
        )
        place, sent = self._shell.upload(file, ProgressLog(self._name))
        refused = ""
        try:
            self._shell.run(_load_command(self._server.socket, place), timeout_s=600)
        except ShipError as error:
            refused = str(error)
        finally:
            self._shell.remove_uploads()
        if refused and present == 0 and not self._find():
            raise ShipError(refused)
        return sent

    def _pull(self, registry: str) -> int:
        """Pull it from the registry; 0, since this machine sends nothing."""
        name = self._source.push_to(registry)
        logger.info(f"{self._name}: pulling {name}")
        self._check_engine_space(self.missing_layers()[1])
        self._engine.images.pull(name)
        if self._find():
            self._tag()
        self._engine.images.remove(name)  # the registry's name for it, or what another put in its place
        return 0

    def _check_engine_space(self, needed: int) -> None:
        """A containerd store keeps every layer twice: as it came, and unpacked."""
        info = self._engine.info()
        copies = 2 if uses_containerd_store(info) else 1
        self._check_space(info["DockerRootDir"], copies * needed)

    def _check_space(self, folder: str, needed: int) -> None:
        free = self._shell.free_bytes(folder)
        if free is None:
            logger.info(
                f"{self._name}: no folder {folder} there, where its engine says that it keeps images (it runs in a "
                "machine of its own): whether there is room for the image is not checked"
            )
        elif free < needed + SPARE_BYTES:
            place, needed_mb = folder if folder != "." else "the home folder", (needed + SPARE_BYTES) / 1e6
            raise ShipError(
                f"{self._name}: {free / 1e6:.0f} MB free in {place} there, {needed_mb:.0f} MB needed; free some: ssh "
                f"{self._server.address} docker image prune"
            )


def _load_command(socket: str, file: str) -> str:
    """By the server's own client: Docker's, or Podman's where that is all there is."""
    url, file = quote(f"unix://{socket}"), quote(file)
    return (
        f"if command -v docker >/dev/null; then docker -H {url} load -q -i {file}; "
        f"else podman --url={url} load -q -i {file}; fi"
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
        file = home() / "shipping" / f"oci-{image.content.config.rpartition(':')[2][:24]}-{present}.tar.gz"
        with PACK_LOCK:
            if not file.is_file():
                count = len(image.content.layers)
                logger.info(f"packing {image.tag} without its first {present} of {count} layers")
                pack_image(require_release(client, image), image.content, present, file)
        return present, file

    return provide


def record_layers(server: str, there: DockerClient) -> list[Sequence[str]]:
    """The layers of a server's images; also stored, for offline bundles packed while the server cannot be reached."""
    found: list[Sequence[str]] = [image_layers(image) for image in there.images.list(all=True)]
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
