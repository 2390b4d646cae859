"""An image -> the file that `docker load` takes, without the layers that an engine has already.

Docker's loader looks a layer up by its chain of digests before it opens the file (tarexport/load.go), so an archive may
leave out what is there. Of one release of a model the next differs in its last layer, the model. Packed with gzip, the
same bytes for the same image and the same layers, so that a transfer that was cut can go on.
"""

import gzip
import json
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from docker.models.images import Image

from deploy.servers.server import ShipError
from toolchain.records.storage import atomic_file

LEVEL = 6


def count_present_layers(layers: Sequence[str], there: Iterable[Sequence[str]]) -> int:
    """How many of the first `layers` (diff ids, lowest first) some image of an engine begins with: those are there."""
    return max((_common_prefix(layers, other) for other in there), default=0)


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


def pack_image(image: Image, present: int, out: Path) -> Path:
    """Write the archive of `image` without its first `present` layers to `out`."""
    with tempfile.TemporaryFile() as saved:
        for block in image.save(named=True):
            saved.write(block)
        saved.seek(0)
        with atomic_file(out) as temporary:
            _write_archive(saved, present, temporary)
    return out


def _write_archive(saved: IO[bytes], present: int, out: Path) -> None:
    with tarfile.open(fileobj=saved) as whole:
        left_out = _files_to_omit(whole, present)
        with (
            out.open("wb") as raw,
            gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|") as sent,
        ):
            for entry in sorted(whole.getmembers(), key=lambda one: one.name):
                if entry.name not in left_out:
                    sent.addfile(_normalize(entry), whole.extractfile(entry) if entry.isreg() else None)


def _files_to_omit(whole: tarfile.TarFile, present: int) -> set[str]:
    """The files of the first `present` layers, but none that a layer that is sent shares with them."""
    listed = whole.extractfile("manifest.json")
    if listed is None:
        raise ShipError("the engine's archive of the image has no manifest.json")
    (manifest,) = json.load(listed)
    layers: list[str] = [_resolve_link(whole, name) for name in manifest["Layers"]]
    return set(layers[:present]) - set(layers[present:])


def _resolve_link(whole: tarfile.TarFile, name: str) -> str:
    """Where a layer that an image holds twice really is: old engines write links."""
    entry = whole.getmember(name)
    if not entry.issym():
        return name
    return str((Path("/") / name).parent.joinpath(entry.linkname).resolve().relative_to("/"))


def _normalize(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without times and owners, which differ from one saving to the next."""
    entry.mtime = 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.pax_headers = {}
    return entry
