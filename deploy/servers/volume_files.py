"""Small files on a server's volume, read and written through a container that has it.

Written under another name, synced and renamed: after a power cut the server has the old file, not half of the new one.
"""

import io
import tarfile

import docker.errors
from docker import DockerClient

from deploy.docker.tar import add_member, read_member
from deploy.servers.server import ShipError

OWNER = 10001  # whom our containers run as
RENAME = "import os, sys; f = os.open(sys.argv[1], 0); os.fsync(f); os.replace(*sys.argv[1:])"


class VolumeFiles:
    """The folder `folder` of the container `holder`."""

    def __init__(self, client: DockerClient, holder: str, folder: str) -> None:
        self._client, self._holder, self._folder = client, holder, folder

    def read(self, name: str) -> str:
        """The file's text; "" if there is none."""
        try:
            blocks, _ = self._client.containers.get(self._holder).get_archive(f"{self._folder}/{name}")
        except docker.errors.NotFound:
            return ""
        with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as archive:
            return read_member(archive, name).decode()

    def write(self, name: str, content: bytes) -> None:
        """The container must be running."""
        held, new = io.BytesIO(), f".{name}.new"
        with tarfile.open(fileobj=held, mode="w") as archive:
            add_member(archive, new, content, OWNER)
        holder = self._client.containers.get(self._holder)
        holder.put_archive(self._folder, held.getvalue())
        code, said = holder.exec_run(["python3", "-S", "-c", RENAME, f"{self._folder}/{new}", f"{self._folder}/{name}"])
        if code:
            words = bytes(said).decode(errors="replace")  # type: ignore[arg-type]  # no stream is asked for
            raise ShipError(f"{self._holder}: {name} could not be written there: {' '.join(words.split())[-200:]}")
