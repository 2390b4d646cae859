"""An image -> the canonical archive of it (deploy/docker/archive.py) without the layers that an engine has already.

Every image store takes an archive without layers that it has: the classic one and Podman's look a layer up before they
open its file, and the containerd store has it under the same digest from an earlier archive. Of one release of a model
the next differs in its last layer, the model. The same image and the same layers give the same bytes, so that a
transfer that was cut can go on.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from docker.models.images import Image

from deploy.docker.archive import ImageContent, check_archive, write_archive
from deploy.images.content import saved_image
from toolchain.records.storage import atomic_file


def count_present_layers(layers: Sequence[str], there: Iterable[Sequence[str]]) -> int:
    """How many of the first `layers` (diff ids, lowest first) some image of an engine begins with: those are there."""
    return max((_common_prefix(layers, other) for other in there), default=0)


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


def pack_image(image: Image, content: ImageContent, present: int, out: Path) -> Path:
    """Write the archive of `image` without its first `present` layers to `out`. ArchiveError: the engine's image is not
    the one with `content`."""
    with saved_image(image) as saved, atomic_file(out) as temporary, temporary.open("wb") as file:
        write_archive(saved, content, present, file)
    return out


class ArchiveChecks:
    """Compares archives with what was announced, each once: all servers of a fleet are sent the same files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checked: set[tuple[object, ...]] = set()

    def check(self, file: Path, content: ImageContent, present: int) -> None:
        """ArchiveError: `file` is not the archive of `content` without its first `present` layers."""
        state = file.stat()
        key = (file, state.st_ino, state.st_size, state.st_mtime_ns, content, present)
        with self._lock:
            if key not in self._checked:
                with file.open("rb") as opened:
                    check_archive(opened, content, present)
                self._checked.add(key)


ARCHIVE_CHECKS = ArchiveChecks()
