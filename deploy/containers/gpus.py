"""Gives a container the machine's GPUs if its image needs them and the engine has NVIDIA's runtime.

Without that runtime none are requested: the container then starts and reports what is missing and how to install it,
which is more helpful than the engine's error.
"""

import os
from contextlib import closing
from functools import cache

from docker import DockerClient
from docker.types import DeviceRequest

from deploy.docker.engine import connect
from deploy.docker.labels import TARGET
from deploy.images.build import find_image
from deploy.images.variants import target_variant


def gpu_flags(image: str) -> tuple[str, ...]:
    """As flags of `docker run`."""
    return _flags(image, os.environ.get("DOCKER_HOST", ""))


@cache  # called for every container of a gate
def _flags(image: str, _engine: str) -> tuple[str, ...]:
    with closing(connect()) as client:
        return ("--gpus=all",) if gets_gpu(client, image) else ()


def gpu_requests(client: DockerClient, image: str) -> list[DeviceRequest]:
    """As arguments of the engine's API."""
    return [DeviceRequest(count=-1, capabilities=[["gpu"]])] if gets_gpu(client, image) else []


def gets_gpu(client: DockerClient, image: str) -> bool:
    image_details = find_image(client, image)
    needs_gpu = image_details is not None and target_variant(image_details.labels.get(TARGET, "")).gpu
    return needs_gpu and "nvidia" in client.info().get("Runtimes", {})
