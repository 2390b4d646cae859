"""Pushes a release's image to a registry, and tells under which digest servers pull it."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from docker import DockerClient

from deploy.images.content import remember_content
from deploy.servers.release_image import ReleaseImage, require_release
from deploy.servers.server import ShipError
from deploy.servers.transfer import PACK_LOCK, RegistryPush

logger = logging.getLogger(__name__)

PUSHED_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")


def registry_push(client: DockerClient, image: ReleaseImage) -> RegistryPush:
    """Pushes the image once per registry."""
    done: dict[str, str] = {}

    def push_to(registry: str) -> str:
        with PACK_LOCK:
            if registry not in done:
                repository, _, tag = image.tag.rpartition(":")
                name = f"{registry}/{repository.rpartition('/')[2]}"
                logger.info(f"pushing {image.tag} to {name}")
                require_release(client, image).tag(name, tag)
                digest = _pushed_digest(client.images.push(name, tag, stream=True, decode=True), name)
                remember_content(digest, image.content)  # what a containerd store calls it that pulls it
                done[registry] = f"{name}@{digest}"
                client.images.remove(f"{name}:{tag}")  # the name only: the image has its own
            return done[registry]

    return push_to


def _pushed_digest(lines: Iterable[Mapping[str, Any]], name: str) -> str:
    """Of the manifest that the registry has now. ShipError for a failure, which the engine reports in its progress
    stream."""
    digest = ""
    for line in lines:
        if "error" in line:
            raise ShipError(f"{name}: the registry rejected it: {str(line['error'])[:200]}")
        words = PUSHED_DIGEST.search(str(line.get("status", "")))  # all that the containerd store tells
        digest = (line.get("aux") or {}).get("Digest") or (words[1] if words else digest)
    if not digest:
        raise ShipError(f"{name}: the engine did not report the digest of what it pushed; ship it without `registry`")
    return str(digest)
