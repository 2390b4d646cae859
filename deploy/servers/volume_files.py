"""Small files on a server's volume, read and written through a container that has it and runs.

Written under another name, synced and renamed: after a power cut the server has the old file, not half of the new one.
"""

import io
import tarfile
from collections.abc import Iterable

import docker.errors
from docker import DockerClient

from deploy.docker.tar import add_member
from deploy.servers.answers import read_files
from deploy.servers.server import ShipError

OWNER = 10001  # whom our containers run as
RENAME = "import os, sys; f = os.open(sys.argv[1], 0); os.fsync(f); os.replace(*sys.argv[1:])"
REMOVE = "import os, sys; [os.remove(place) for place in sys.argv[1:] if os.path.lexists(place)]"


class VolumeFiles:
    """The folder `folder` of the container `holder`."""

    def __init__(self, client: DockerClient, holder: str, folder: str) -> None:
        self._client, self._holder, self._folder = client, holder, folder

    def read(self, name: str) -> bytes:
        """The file's content; b"" if there is none."""
        return self._read_archive(f"{self._folder}/{name}").get(name, b"")

    def read_all(self) -> dict[str, bytes]:
        """The content of each file, by name."""
        return self._read_archive(self._folder)

    def _read_archive(self, place: str) -> dict[str, bytes]:
        try:
            blocks, _ = self._client.containers.get(self._holder).get_archive(place)
        except docker.errors.NotFound:
            return {}
        return read_files(blocks, f"{self._holder}: {place}")

    def write(self, name: str, content: bytes) -> None:
        """The container must be running."""
        held, new = io.BytesIO(), f".{name}.new"
        with tarfile.open(fileobj=held, mode="w") as archive:
            add_member(archive, new, content, OWNER)
        self._client.containers.get(self._holder).put_archive(self._folder, held.getvalue())
        self._run(RENAME, (new, name), f"{name} could not be written there")

    def remove(self, names: Iterable[str]) -> None:
        """The container must be running."""
        self._run(REMOVE, names, "files could not be removed there")

    def _run(self, program: str, names: Iterable[str], failure: str) -> None:
        places = [f"{self._folder}/{name}" for name in names]
        code, said = self._client.containers.get(self._holder).exec_run(["python3", "-S", "-c", program, *places])
        if code:
            words = bytes(said).decode(errors="replace")  # type: ignore[arg-type]  # no stream is asked for
            raise ShipError(f"{self._holder}: {failure}: {' '.join(words.split())[-200:]}")
