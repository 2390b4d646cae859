"""Containers that never run: an engine gives a name out once, and files are copied to and from their volumes.

They need no image that anybody built: theirs is empty.
"""

import io
import tarfile
from collections.abc import Mapping, Sequence

import docker.errors
from docker import DockerClient
from docker.types import Mount

EMPTY = "edge-toolchain-empty"


def create_idle_container(client: DockerClient, name: str, labels: Mapping[str, str], mounts: Sequence[Mount]) -> None:
    """APIError 409: there is a container of that name."""
    client.containers.create(_empty_image(client), "none", name=name, labels=dict(labels), mounts=list(mounts))


def _empty_image(client: DockerClient) -> str:
    try:
        return str(client.images.get(EMPTY).id)
    except docker.errors.ImageNotFound:
        content = io.BytesIO()
        tarfile.open(fileobj=content, mode="w").close()
        client.api.import_image_from_data(content.getvalue(), repository=EMPTY)
        return str(client.images.get(EMPTY).id)
