"""A release as it is shipped: its image, and the names that it has on every server.

Names are made of the model's and the release's, so that whoever types `docker ps` there knows what runs.
"""

import re
from typing import Annotated

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.archive import ImageContent
from deploy.docker.labels import NAME, RELEASE, ReleaseLabels, read_release_labels
from deploy.images.build import require_image
from deploy.images.content import find_content, has_content, image_layers, is_id_of, read_content
from deploy.images.signatures import read_signature, signed_content
from deploy.images.variants import target_variant
from deploy.servers.server import ShipError

TAG = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}\Z"
UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


class ReleaseImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tag: its name here and on the servers; content: what identifies it on every engine; labels: what it says that it
    is; signature: who made it (deploy/images/signatures.py), b"" for nobody."""

    tag: Annotated[str, msgspec.Meta(pattern=TAG)]
    content: ImageContent
    labels: ReleaseLabels
    architecture: str
    signature: bytes = b""

    @property
    def model(self) -> str:
        return self.labels.name

    @property
    def release(self) -> str:
        return self.labels.release

    @property
    def kind(self) -> str:
        """Of device that it is for."""
        return "gpu" if target_variant(self.labels.target).gpu else "cpu"


def container_name(model: str, release: str) -> str:
    return f"edge-{docker_name(model)}-at-{docker_name(release)}"


def socket_holder_name(model: str) -> str:
    """The name of its door's container, and of the volume that servers and door share."""
    return f"edge-{docker_name(model)}-door"


def lock_name(model: str) -> str:
    return f"edge-{docker_name(model)}-lock"


def docker_name(text: str) -> str:
    """As Docker takes names."""
    return UNFIT.sub("-", text)


def read_release_image(client: DockerClient, tag: str) -> ReleaseImage:
    """DockerError for a tag that is no image of ours on that engine."""
    image = require_image(client, tag)
    labels = read_release_labels(image.labels, tag)
    content = read_content(image)
    return ReleaseImage(tag, content, labels, image.attrs["Architecture"], read_signature(content.config))


def read_deployed_image(image: Image, signature: bytes) -> ReleaseImage:
    """A release that is on a server already, with the signature that was stored there. It is as its signature says;
    ImageTransfer.verify compares it with what is there."""
    tag, layers = next(iter(image.tags), str(image.id)), image_layers(image)
    content = signed_content(signature) or ImageContent(str(image.id), 0, layers, (0,) * len(layers))
    labels = read_release_labels(image.labels, tag)
    return ReleaseImage(tag, content, labels, image.attrs["Architecture"], signature)


def find_release(client: DockerClient, image: ReleaseImage) -> Image | None:
    """The image of a release that an engine has whole, whatever it calls it."""
    found = find_content(client, image.content)
    if found is not None:
        return found
    named = client.images.list(filters={"label": [f"{NAME}={image.model}", f"{RELEASE}={image.release}"]})
    return next((one for one in named if has_content(one, image.content)), None)


def is_release(client: DockerClient, engine_id: str, image: ReleaseImage) -> bool:
    """Whether that release is what an engine, or a container on it, calls by an id."""
    if is_id_of(engine_id, image.content):
        return True
    try:
        return has_content(client.images.get(engine_id), image.content)
    except docker.errors.ImageNotFound:
        return False


def require_release(client: DockerClient, image: ReleaseImage) -> Image:
    """Its image on this machine's engine. ShipError: it is gone."""
    found = find_release(client, image)
    if found is None:
        raise ShipError(f"{image.tag} is no longer on this machine's engine; build it again: toolchain image")
    return found
