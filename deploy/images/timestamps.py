"""An image whose digest tells what is in it, and not when or where it was built.

Layers are the same bytes wherever they are made (the Dockerfiles set all times and modes), but an engine writes the
time of the build into the image's configuration, whose digest is the image's id. Those times are set to
SOURCE_DATE_EPOCH here (reproducible-builds.org/specs/source-date-epoch), by loading the configuration again; its layers
are there, so none is written.
"""

import io
import json
import logging
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import docker.errors
from docker import DockerClient
from docker.models.images import Image

from deploy.docker.tar import add_content, content_of

logger = logging.getLogger(__name__)


EPOCH = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
# what engines write of themselves and of the container that a step ran in
OF_THE_BUILD = ("container", "container_config", "docker_version", "moby.buildkit.buildinfo.v1")


def timeless(client: DockerClient, tag: str) -> Image:
    """The image `tag` with no time of its build in it, under the same tag."""
    made = client.images.get(tag)
    before = _configuration(made)
    after = without_times(before)
    if after == before:
        return made
    content = json.dumps(after, sort_keys=True, separators=(",", ":")).encode()
    digest = sha256(content).hexdigest()
    with suppress(docker.errors.APIError):
        client.images.load(_archive(f"{digest}.json", content, tag))
    try:
        found = client.images.get(f"sha256:{digest}")
    except docker.errors.ImageNotFound:
        logger.info(
            f"{tag}: this engine does not take a configuration alone: the image's digest tells when it was built"
        )
        return made
    made.reload()
    if not made.tags:
        with suppress(docker.errors.APIError):  # a container may have it
            client.images.remove(str(made.id))
    return found


def without_times(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """An image's configuration (OCI image specification) at the epoch, less what tells of the build's machine."""
    found = {name: value for name, value in configuration.items() if name not in OF_THE_BUILD}
    found["created"] = EPOCH
    found["history"] = [{**step, "created": EPOCH} for step in configuration.get("history", [])]
    settings = dict(found.get("config", {}))
    for name in ("Hostname", "Image"):  # of the container that `docker import` and the old builder made
        if settings.get(name):
            settings[name] = ""
    found["config"] = settings
    return found


def _configuration(image: Image) -> dict[str, Any]:
    with tempfile.TemporaryFile() as saved:
        for block in image.save():
            saved.write(block)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            (listed,) = json.loads(content_of(archive, "manifest.json"))
            found: dict[str, Any] = json.loads(content_of(archive, listed["Config"]))
            return found


def _archive(name: str, configuration: bytes, tag: str) -> bytes:
    """What `docker load` takes, less the layers, which it looks for in its store first."""
    layers = json.loads(configuration)["rootfs"]["diff_ids"]
    files = [f"{layer.rpartition(':')[2]}/layer.tar" for layer in layers]
    listed = [{"Config": name, "RepoTags": [tag], "Layers": files}]
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for member, content in ((name, configuration), ("manifest.json", json.dumps(listed).encode())):
            add_content(archive, member, content)
    return held.getvalue()
