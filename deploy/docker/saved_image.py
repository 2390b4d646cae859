"""Reads what `docker save` of one image wrote, whatever the engine: its configuration, its layers, its names.

Engine 20.10 writes `manifest.json` and a folder for each layer; newer ones an OCI layout with `manifest.json` next to
it; the containerd store the same with compressed layers, and without those that it does not have; other tools an OCI
layout alone. What identifies the image is the same in all of them: the digest of its configuration, and the digests of
its uncompressed layers, which the configuration lists.
"""

import gzip
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from shutil import copyfileobj
from typing import IO, Any, TypeVar

import msgspec

from deploy.docker.archive import INDEX, MANIFEST, ArchiveError, ImageContent, digest_text

CONFIGURATION_BYTES = 4 << 20  # at most; ours have 5 kB
TAG_ANNOTATION, KIND_ANNOTATION = "io.containerd.image.name", "vnd.docker.reference.type"
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SavedT = TypeVar("SavedT")


class SavedEntry(msgspec.Struct, frozen=True):
    """An image in `manifest.json`: names of members."""

    config: str = msgspec.field(name="Config")
    layers: tuple[str, ...] = msgspec.field(name="Layers", default=())
    tags: tuple[str, ...] | None = msgspec.field(name="RepoTags", default=None)


class OciDescriptor(msgspec.Struct, frozen=True):
    digest: str
    mediaType: str = ""  # the standard's spelling
    annotations: dict[str, str] = {}


class OciIndex(msgspec.Struct, frozen=True):
    manifests: tuple[OciDescriptor, ...]


class OciManifest(msgspec.Struct, frozen=True):
    config: OciDescriptor
    layers: tuple[OciDescriptor, ...]


class RootFileSystem(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class ImageConfiguration(msgspec.Struct, frozen=True):
    """What is read of the OCI image configuration."""

    architecture: str
    rootfs: RootFileSystem
    config: dict[str, Any] = {}

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.config.get("Labels") or {})


def parse_configuration(content: bytes) -> ImageConfiguration:
    """ArchiveError for anything else."""
    return _decode(content, ImageConfiguration, "the image's configuration")


class SavedImage:
    """layers: diff ids, lowest first; tags: the names that it was saved under;
    present: the layers whose content is in the archive."""

    def __init__(self, file: IO[bytes]) -> None:
        """`file` can be sought in, and stays open as long as this is used. ArchiveError: not the archive of one
        image."""
        try:
            self._archive = tarfile.open(fileobj=file)  # noqa: SIM115  # closed with its file
            self._members = {str(PurePosixPath(entry.name)): entry for entry in self._archive}
        except (tarfile.TarError, EOFError) as error:
            raise ArchiveError(f"the engine's archive of the image cannot be read ({error})") from error
        entry = self._find_entry()
        self.configuration = self._read(entry.config)
        self.layers = parse_configuration(self.configuration).rootfs.diff_ids
        self.tags = entry.tags or ()
        if len(self.layers) != len(entry.layers):
            raise ArchiveError(f"the engine's archive lists {len(entry.layers)} layers, its image {len(self.layers)}")
        self._places = dict(zip(self.layers, entry.layers, strict=True))
        self.present = frozenset(layer for layer, name in self._places.items() if self._resolve(name))

    @property
    def config(self) -> str:
        return digest_text(self.configuration)

    def replace_configuration(self, configuration: bytes) -> None:
        """Make it another image with the same layers. ArchiveError: those of `configuration` are others."""
        if parse_configuration(configuration).rootfs.diff_ids != self.layers:
            raise ArchiveError("the image's new configuration lists other layers than its old one")
        self.configuration = configuration

    @property
    def content(self) -> ImageContent:
        """Reads every layer. ArchiveError: one is not in the archive."""
        sizes = tuple(map(self._layer_bytes, self.layers))
        return ImageContent(self.config, len(self.configuration), self.layers, sizes)

    def _layer_bytes(self, layer: str) -> int:
        with self.open_layer(layer) as (_, size):
            return size

    @contextmanager
    def open_layer(self, layer: str) -> Iterator[tuple[IO[bytes], int]]:
        """The uncompressed tar of a layer, and its size in bytes. ArchiveError: it is not in the archive."""
        member = self._resolve(self._places.get(layer, ""))
        content = self._archive.extractfile(member) if member else None
        if member is None or content is None:
            raise ArchiveError(f"the engine has no content of the layer {layer[:19]}; pull or build the image again")
        magic = content.read(4)
        content.seek(0)
        if magic == ZSTD:
            raise ArchiveError("the engine keeps this image's layers in zstd; build the image again: toolchain image")
        with content, tempfile.TemporaryFile() as plain:
            if not magic.startswith(GZIP):
                yield content, member.size
                return
            copyfileobj(gzip.GzipFile(fileobj=content), plain)
            size = plain.tell()
            plain.seek(0)
            yield plain, size

    def _find_entry(self) -> SavedEntry:
        if MANIFEST in self._members:
            entries = _decode(self._read(MANIFEST), tuple[SavedEntry, ...], MANIFEST)
            if len(entries) != 1:
                raise ArchiveError(f"the engine's archive holds {len(entries)} images; expected one")
            return entries[0]
        if INDEX not in self._members:
            raise ArchiveError(f"the engine's archive has neither {MANIFEST} nor {INDEX}")
        return self._find_oci_entry(_decode(self._read(INDEX), OciIndex, INDEX), ())

    def _find_oci_entry(self, index: OciIndex, tags: tuple[str, ...]) -> SavedEntry:
        """The only image of an index, which may be an index again; attestations are none."""
        images = [one for one in index.manifests if KIND_ANNOTATION not in one.annotations]
        if len(images) != 1:
            raise ArchiveError(f"the engine's archive holds {len(images)} images; expected one")
        (image,) = images
        tags += tuple(image.annotations[name] for name in (TAG_ANNOTATION,) if name in image.annotations)
        content = self._read(_blob_name(image.digest))
        if image.mediaType in INDEXES:
            return self._find_oci_entry(_decode(content, OciIndex, INDEX), tags)
        manifest = _decode(content, OciManifest, "the image's manifest")
        layers = tuple(_blob_name(layer.digest) for layer in manifest.layers)
        return SavedEntry(_blob_name(manifest.config.digest), layers, tags)

    def _read(self, name: str) -> bytes:
        member = self._resolve(name)
        content = self._archive.extractfile(member) if member else None
        if member is None or content is None or member.size > CONFIGURATION_BYTES:
            raise ArchiveError(f"the engine's archive has no {name[:80]} of at most {CONFIGURATION_BYTES} bytes")
        return content.read()

    def _resolve(self, name: str) -> tarfile.TarInfo | None:
        """The file behind a name: old engines write links to a layer that an image holds twice."""
        member = self._members.get(str(PurePosixPath(name)))
        if member is not None and member.issym():
            member = self._members.get(_join(PurePosixPath(name).parent.parts, PurePosixPath(member.linkname).parts))
        return member if member is not None and member.isreg() else None


def _join(folder: Iterable[str], parts: Iterable[str]) -> str:
    found = list(folder)
    for part in parts:
        if part != "..":
            found.append(part)
        elif found:
            found.pop()
    return "/".join(found)


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _decode(content: bytes, kind: type[SavedT], what: str) -> SavedT:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"the engine's archive: {what}: {error}") from error
