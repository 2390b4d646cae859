"""What toolchains rely on at a server (trusted keys, signatures, the audit), where no serving container can write.

A volume of its own, mounted by a container that never runs, through which the engine copies files in and out. Every
file has two copies that are written in turn, each with its number and its digest, so that after a power cut one of them
is whole. Earlier versions kept these files on the volume that serving containers can write: they are moved once.
"""

import io
import logging
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

import docker.errors
from docker import DockerClient
from docker.models.containers import Container
from docker.types import Mount

from deploy.docker.idle_container import create_idle_container
from deploy.docker.labels import NAME, ROLE
from deploy.docker.tar import add_member
from deploy.servers.answers import read_files
from deploy.servers.release_image import docker_name
from deploy.servers.server import ShipError
from deploy.servers.volume_files import VolumeFiles

logger = logging.getLogger(__name__)

FOLDER, TRUST_ROLE = "/trust", "trust"
MARK = "format"  # written last: whether everything was moved
FORMAT = b"1"
CONFLICT = 409


class FileCopy(NamedTuple):
    """number: of the write; 0: there is no copy."""

    number: int
    content: bytes


NO_COPY = FileCopy(0, b"")


def trust_volume_name(model: str) -> str:
    """Of the volume, and of the container that never runs."""
    return f"edge-{docker_name(model)}-trust"


class TrustVolume:
    """earlier: the folder on the shared volume, where earlier versions kept the files named `names` and those that
    begin with `prefix`. Every call may raise docker's own errors."""

    def __init__(
        self, client: DockerClient, server: str, model: str, earlier: VolumeFiles, names: Iterable[str], prefix: str
    ) -> None:
        self._client, self._server, self._model, self._earlier = client, server, model, earlier
        self._names, self._prefix, self.name = frozenset(names), prefix, trust_volume_name(model)

    def read(self, name: str) -> bytes:
        """b"" if there is no such file. ShipError: it is damaged."""
        keeper = self._find_keeper()
        if keeper is not None and self._is_complete(keeper):
            return self._newest(keeper, name).content
        return self._earlier.read(name)

    def write(self, name: str, content: bytes) -> None:
        keeper = self._find_keeper() or self._create_keeper()
        if not self._is_complete(keeper):
            self._move_earlier_files(keeper)
        self._put(keeper, name, content)

    def _find_keeper(self) -> Container | None:
        """The container that has the volume; it is made again where somebody removed it and left the volume."""
        with suppress(docker.errors.NotFound):
            return self._client.containers.get(self.name)
        with suppress(docker.errors.NotFound):
            self._client.volumes.get(self.name)
            return self._create_keeper()
        return None

    def _create_keeper(self) -> Container:
        mount = Mount(FOLDER, self.name, type="volume")
        try:
            create_idle_container(self._client, self.name, {ROLE: TRUST_ROLE, NAME: self._model}, [mount])
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise
        return self._client.containers.get(self.name)

    def _is_complete(self, keeper: Container) -> bool:
        return bool(self._newest(keeper, MARK).content)

    def _move_earlier_files(self, keeper: Container) -> None:
        """Killed anywhere, it is done again: the earlier files go last."""
        earlier = self._earlier.read_all()
        moved = {name: content for name, content in earlier.items() if self._is_moved(name)}
        for name, content in moved.items():
            self._put(keeper, name, content)
        self._put(keeper, MARK, FORMAT)
        if moved:
            logger.warning(
                f"{self._server}: moved trusted keys, signatures and audit to the volume {self.name}; where they were, "
                "serving containers could have changed them: look at them once: toolchain audit"
            )
            self._earlier.remove(moved)

    def _is_moved(self, name: str) -> bool:
        return name in self._names or name.startswith(self._prefix)

    def _newest(self, keeper: Container, name: str) -> FileCopy:
        """ShipError: there are copies, and none is whole."""
        copies = [self._read_copy(keeper, _copy_name(name, place)) for place in (0, 1)]
        whole = [copy for copy in copies if copy is not None]
        if not whole:
            raise ShipError(
                f"{self._server}: {name} on the volume {self.name} there is damaged in both copies; to trust anew: "
                f"docker rm {self.name} && docker volume rm {self.name}"
            )
        return max(whole)

    def _put(self, keeper: Container, name: str, content: bytes) -> None:
        copies = [self._read_copy(keeper, _copy_name(name, place)) for place in (0, 1)]
        numbers = [-1 if copy is None else copy.number for copy in copies]
        number = max(*numbers, 0) + 1
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            place = numbers.index(min(numbers))  # the damaged one, or the older
            add_member(archive, _copy_name(name, place), frame_copy(FileCopy(number, content)))
        keeper.put_archive(FOLDER, held.getvalue())

    def _read_copy(self, keeper: Container, copy_name: str) -> FileCopy | None:
        """None: it is damaged."""
        try:
            blocks, _ = keeper.get_archive(f"{FOLDER}/{copy_name}")
        except docker.errors.NotFound:
            return NO_COPY
        files = read_files(blocks, f"{self._server}: {copy_name} on the volume {self.name}")
        return _unframe(files.get(copy_name, b""))


def _copy_name(name: str, place: int) -> str:
    return f"{name}.{place}"


def frame_copy(copy: FileCopy) -> bytes:
    body = b"%d\n%s" % copy
    return b"%s %s" % (sha256(body).hexdigest().encode(), body)


def _unframe(framed: bytes) -> FileCopy | None:
    digest, _, body = framed.partition(b" ")
    number, _, content = body.partition(b"\n")
    if sha256(body).hexdigest().encode() != digest or not number.isdigit():
        return None
    return FileCopy(int(number), content)
