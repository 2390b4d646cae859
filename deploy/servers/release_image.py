"""A release as it is shipped: its image, and the names that it has on every server.

Names are made of the model's and the release's, so that whoever types `docker ps` there knows what runs.
"""

import re

import msgspec
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.labels import NAME, RELEASE, TARGET
from deploy.images.build import require_image
from deploy.images.signatures import read_signature
from deploy.images.variants import target_variant
from toolchain.errors import DockerError

UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")


class ReleaseImage(msgspec.Struct, frozen=True):
    """id: of the image, the digest of its configuration; layers: their diff ids, lowest first, and sizes: unpacked,
    bytes; kind: of device that it is for; signature: who made it (deploy/images/signatures.py), b"" for nobody."""

    tag: str
    id: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    architecture: str
    model: str
    release: str
    kind: str
    signature: bytes = b""


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
    labels = image.labels
    if not (labels.get(NAME) and labels.get(RELEASE)):
        raise DockerError(f"{tag} is no image of this toolchain: it has no labels of ours; make it: toolchain image")
    return ReleaseImage(
        tag,
        str(image.id),
        tuple(image.attrs["RootFS"]["Layers"]),
        _sizes(image),
        image.attrs["Architecture"],
        labels[NAME],
        labels[RELEASE],
        "gpu" if target_variant(labels.get(TARGET, "")).gpu else "cpu",
        read_signature(str(image.id)),
    )


def _sizes(image: Image) -> tuple[int, ...]:
    """Of its layers, lowest first. An engine that counts otherwise: all in the last, so that too much is asked for."""
    count = len(image.attrs["RootFS"]["Layers"])
    sizes = [layer["Size"] for layer in reversed(image.history()) if layer["Size"]]
    return tuple(sizes) if len(sizes) == count else (*[0] * (count - 1), image.attrs["Size"])
