"""Reproducible images: the digest depends on the content, not on when or where the image was built.

Layers are the same bytes on every machine (the Dockerfiles set all times and modes), but an engine writes the build
time into the image's configuration, whose digest is the image's id. Here those times are set to SOURCE_DATE_EPOCH
(reproducible-builds.org/specs/source-date-epoch) by loading the configuration again; the engine has the layers already.
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

from deploy.docker.tar import add_member, read_member

logger = logging.getLogger(__name__)


EPOCH = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
# what engines record about themselves and about the containers of build steps
OF_THE_BUILD = ("container", "container_config", "docker_version", "moby.buildkit.buildinfo.v1")


def strip_build_times(client: DockerClient, made: Image, tag: str) -> Image:
    """The image `made` without build times in its configuration, under `tag`."""
    before = _read_configuration(made)
    after = normalize_configuration(before)
    if after == before:
        return made
    content = json.dumps(after, sort_keys=True, separators=(",", ":")).encode()
    digest = sha256(content).hexdigest()
    with suppress(docker.errors.APIError):
        client.images.load(_configuration_archive(f"{digest}.json", content, tag))
    try:
        found = client.images.get(f"sha256:{digest}")
    except docker.errors.ImageNotFound:
        logger.info(
            f"{tag}: this engine takes no configuration without layers, so the image's digest depends on the build time"
        )
        return made
    made.reload()
    if not made.tags:
        with suppress(docker.errors.APIError):  # a container may use it
            client.images.remove(str(made.id))
    return found


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


def _read_configuration(image: Image) -> dict[str, Any]:
    with tempfile.TemporaryFile() as saved:
        for block in image.save():
            saved.write(block)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            (listed,) = json.loads(read_member(archive, "manifest.json"))
            found: dict[str, Any] = json.loads(read_member(archive, listed["Config"]))
            return found


def _configuration_archive(name: str, configuration: bytes, tag: str) -> bytes:
    """An archive for `docker load` without layers; the engine looks for them in its store first."""
    layers = json.loads(configuration)["rootfs"]["diff_ids"]
    files = [f"{layer.rpartition(':')[2]}/layer.tar" for layer in layers]
    listed = [{"Config": name, "RepoTags": [tag], "Layers": files}]
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for member, content in ((name, configuration), ("manifest.json", json.dumps(listed).encode())):
            add_member(archive, member, content)
    return held.getvalue()
