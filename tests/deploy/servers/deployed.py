"""What a model leaves on this machine's own engine, which plays a server's."""

import socket
from contextlib import suppress

import docker.errors
from docker import DockerClient

from deploy.docker.sandbox import state_volume
from deploy.servers.inventory import ServerConfig
from deploy.servers.release_image import container_name, socket_holder_name
from deploy.servers.trust_volume import trust_volume_name


def local_server() -> ServerConfig:
    """This machine, at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ServerConfig("here", "local", port=free.getsockname()[1])


def remove_deployed(engine: DockerClient, model: str, *releases: str) -> None:
    """The containers and volumes of the model."""
    names = [container_name(model, release) for release in releases]
    for name in (*names, socket_holder_name(model), trust_volume_name(model)):
        with suppress(docker.errors.NotFound):
            engine.containers.get(name).remove(force=True)
    for volume in (socket_holder_name(model), state_volume(model), trust_volume_name(model)):
        with suppress(docker.errors.NotFound):
            engine.volumes.get(volume).remove(force=True)
