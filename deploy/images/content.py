"""What identifies an image (ImageContent), whatever its engine calls it.

The classic image store and Podman call an image by the digest of its configuration; the containerd store, which Docker
29 uses from the start, by the digest of a manifest, of which one image may have several: ours, when it was loaded from
a canonical archive, and others where it was built or pulled. What an id of this machine's engine stands for never
changes: it is read once, out of the engine's own archive of the image, and kept where no project can bring it along.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.archive import ImageContent
from deploy.docker.saved_image import SavedImage
from toolchain.paths import private_folder
from toolchain.records.storage import write_atomically

CONTAINERD_DRIVER = "io.containerd.snapshotter"


@contextmanager
def saved_image(image: Image) -> Iterator[SavedImage]:
    """The engine's archive of an image, for as long as the block lasts."""
    with tempfile.TemporaryFile() as file:
        for block in image.save():
            file.write(block)
        file.seek(0)
        yield SavedImage(file)


def read_content(image: Image) -> ImageContent:
    """The content of an image of this machine's engine. DockerError: the engine's archive of it cannot be used."""
    kept = recall_content(str(image.id))
    if kept is not None:
        return kept
    with saved_image(image) as saved:
        content = saved.content
    remember_content(str(image.id), content)
    return content


def image_layers(image: Image) -> tuple[str, ...]:
    """Diff ids, lowest first; () for an image that its engine has not got whole."""
    return tuple(image.attrs.get("RootFS", {}).get("Layers") or ())


def find_content(client: DockerClient, content: ImageContent) -> Image | None:
    """The image with `content` that an engine has whole, by the ids that loading gives it."""
    for name in (content.config, content.manifest_digest):
        with suppress(docker.errors.ImageNotFound):
            image = client.images.get(name)
            if image_layers(image) == content.layers:
                return image
    return None


def has_content(image: Image, content: ImageContent) -> bool:
    """Whether an image of any engine is the one with `content`. On a containerd store, an image that was built or
    pulled under a manifest that is not known here is read whole."""
    if image_layers(image) != content.layers:
        return False
    if is_id_of(str(image.id), content):
        return True
    if image.client is None or not uses_containerd_store(image.client.info()):
        return False
    with saved_image(image) as saved:
        return saved.config == content.config


def is_id_of(image: str, content: ImageContent) -> bool:
    """Whether engines are known to call the image with `content` by the id `image`."""
    return image in (content.config, content.manifest_digest) or recall_content(image) == content


def uses_containerd_store(info: Mapping[str, Any]) -> bool:
    """Whether an engine that says this of itself names its images by their manifests."""
    return any(str(value).startswith(CONTAINERD_DRIVER) for _, value in info.get("DriverStatus") or ())


def recall_content(image: str) -> ImageContent | None:
    """What is known of the id of an image."""
    try:
        return msgspec.json.decode(_content_path(image).read_bytes(), type=ImageContent)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def remember_content(image: str, content: ImageContent) -> None:
    """Only for ids that this machine's own engine gave or that this toolchain computed: another's word is not kept."""
    write_atomically(_content_path(image), msgspec.json.encode(content))


def _content_path(image: str) -> Path:
    return private_folder() / "images" / f"{image.rpartition(':')[2]}.json"
