"""Reproducible images: the digest depends on the content, not on when or where the image was built.

Layers are the same bytes on every machine (the Dockerfiles set all times and modes), but an engine writes the build
time into the image's configuration, whose digest identifies the image (deploy/images/content.py). Here those times are
set to SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch) by loading the image again with another
configuration: without its layers, which the classic store has already; with them into a containerd store, which keeps
what it built compressed.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import docker.errors
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.archive import ImageContent, write_archive
from deploy.docker.saved_image import SavedImage
from deploy.images.content import find_content, remember_content, saved_image

logger = logging.getLogger(__name__)


EPOCH = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
# what engines record about themselves and about the containers of build steps
OF_THE_BUILD = ("container", "container_config", "docker_version", "moby.buildkit.buildinfo.v1")
UNPACKED = 0  # gzip's level for an archive that stays on this machine


def strip_build_times(client: DockerClient, made: Image, tag: str) -> Image:
    """The image `made` without build times in its configuration, under `tag`, and with the id that every engine with
    this image store gives it."""
    with saved_image(made) as saved:
        before = json.loads(saved.configuration)
        after = normalize_configuration(before)
        if after != before:
            saved.replace_configuration(json.dumps(after, sort_keys=True, separators=(",", ":")).encode())
        content = saved.content
        found = find_content(client, content)
        found = found or _load(client, saved, content, len(content.layers)) or _load(client, saved, content, 0)
    if found is None:
        logger.info(f"{tag}: this engine does not load its own image again, so its digest depends on the build time")
        return made
    remember_content(str(found.id), content)
    repository, _, name = tag.rpartition(":")
    found.tag(repository, name)
    _remove_untagged(client, str(made.id))
    return client.images.get(str(found.id))


def _remove_untagged(client: DockerClient, image: str) -> None:
    with suppress(docker.errors.APIError):  # it is gone already, or a container uses it
        if not client.images.get(image).tags:
            client.images.remove(image)


def _load(client: DockerClient, saved: SavedImage, content: ImageContent, left_out: int) -> Image | None:
    """The image that the engine has after loading, None when it has not got all layers."""
    with tempfile.TemporaryFile() as archive, suppress(docker.errors.APIError, docker.errors.ImageLoadError):
        write_archive(saved, content, left_out, archive, UNPACKED)
        archive.seek(0)
        client.images.load(archive)
    return find_content(client, content)


def normalize_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """An image's configuration (OCI image specification) dated at the epoch, without traces of the build machine."""
    found = {name: value for name, value in configuration.items() if name not in OF_THE_BUILD}
    found["created"] = EPOCH
    found["history"] = [{**step, "created": EPOCH} for step in configuration.get("history", [])]
    settings = dict(found.get("config", {}))
    for name in ("Hostname", "Image"):  # of the container that `docker import` or the old builder created
        if settings.get(name):
            settings[name] = ""
    found["config"] = settings
    return found
