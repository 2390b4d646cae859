"""Whether a container gets the machine's GPUs: where its image wants them and the engine has NVIDIA's runtime.

Without that runtime nothing is asked for: the container starts, and says itself what is missing and how to install it,
which is more than the engine would say. Knows nothing of what runs in the container.
"""

import os
from contextlib import closing
from functools import cache

from docker import DockerClient
from docker.types import DeviceRequest

from deploy.docker.engine import connect
from deploy.docker.labels import TARGET
from deploy.images.build import find_image
from deploy.images.variants import kind_of


def gpu_flags(image: str) -> tuple[str, ...]:
    """For `docker run`."""
    return _flags(image, os.environ.get("DOCKER_HOST", ""))


@cache  # asked for every container of a gate
def _flags(image: str, _engine: str) -> tuple[str, ...]:
    with closing(connect()) as client:
        return ("--gpus=all",) if granted(client, image) else ()


def gpu_requests(client: DockerClient, image: str) -> list[DeviceRequest]:
    """The same for the engine's API."""
    return [DeviceRequest(count=-1, capabilities=[["gpu"]])] if granted(client, image) else []


def granted(client: DockerClient, image: str) -> bool:
    found = find_image(client, image)
    wanted = found is not None and kind_of(found.labels.get(TARGET, "")).gpu
    return wanted and "nvidia" in client.info().get("Runtimes", {})
