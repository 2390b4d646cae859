"""Offline bundles: a release in one file, for servers that this machine cannot reach (air-gapped).

A plain tar of `stick.json`, the signed list of what it holds, and archives of the image: one for each set of layers
that the named servers had when they were last reached, or the whole image if that is not known. Nothing but the list is
read before its signature is checked; an archive is read when a server that trusts the signer asks for it.
"""

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import IO

import msgspec
from docker import DockerClient

from deploy.docker.tar import BLOCK, PLAIN_END, padding, plain_header, read_plain_header
from deploy.images.signatures import (
    check_signature,
    public_key,
    read_signing_key,
    sign_document,
    verify_document,
)
from deploy.servers.layer_archive import ARCHIVE_CHECKS, count_present_layers
from deploy.servers.release_image import ReleaseImage
from deploy.servers.server import ShipError
from deploy.servers.transfer import ArchiveProvider, archive_provider, last_known_layers
from toolchain.errors import RecordError, UsageError
from toolchain.records.certificate import short_key
from toolchain.records.storage import atomic_file, decode_record, digest_of, encode_record, format_number

CONTENTS = "stick.json"
FORMAT = 2
CONTENTS_BYTES = 1 << 20  # at most; a list has a few kB
CHUNK_BYTES = 1 << 20


class LayerArchive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """left_out: how many of the image's lowest layers it leaves out."""

    sha256: str
    size_bytes: int
    left_out: int

    @property
    def name(self) -> str:
        return f"image-{self.left_out}.tar.gz"


class OfflineBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """archives: in the order of the file; the one that leaves out most comes last. key, signature: base64, of who
    signed the image too; the signature is of all the rest."""

    release: ReleaseImage
    archives: tuple[LayerArchive, ...]
    key: str
    signature: str = ""
    format: int = FORMAT


def write_offline_bundle(
    client: DockerClient, sent: ReleaseImage, servers: Sequence[str], out: Path, key: Path | None = None
) -> OfflineBundle:
    """Write the bundle for `servers`; without servers, it holds the whole image. key: a file with the key that the
    image is signed with, by default this toolchain's own. RecordError: it is not signed; UsageError: by another key."""
    private = read_signing_key(key)
    signer = check_signature(sent.signature, sent.content, sent.labels, sent.tag).key
    if signer != public_key(private):
        raise UsageError(
            f"{sent.tag} is signed by {short_key(signer)}, not by {short_key(public_key(private))}; pack it with the "
            "key that it was signed with: --key=FILE"
        )
    present = {count_present_layers(sent.content.layers, last_known_layers(server)) for server in servers} or {0}
    made = archive_provider(client, sent)
    files = dict(made(count) for count in sorted(present))
    for count, file in files.items():  # they are kept in the project's folder: better here than at the far end
        ARCHIVE_CHECKS.check(file, sent.content, count)
    archives = tuple(LayerArchive(digest_of(file), file.stat().st_size, count) for count, file in files.items())
    unsigned = OfflineBundle(sent, archives, signer)
    bundle = msgspec.structs.replace(unsigned, signature=sign_document(encode_record(unsigned), private))
    with atomic_file(out) as temporary, temporary.open("wb") as written:
        content = encode_record(bundle)
        written.write(plain_header(CONTENTS, len(content)) + content + bytes(padding(len(content))))
        for archive in archives:
            _append_file(written, archive, files[archive.left_out])
        written.write(PLAIN_END)
    return bundle


def _append_file(written: IO[bytes], archive: LayerArchive, file: Path) -> None:
    written.write(plain_header(archive.name, archive.size_bytes))
    with file.open("rb") as source:
        while block := source.read(CHUNK_BYTES):
            written.write(block)
    written.write(bytes(padding(archive.size_bytes)))


class OpenedBundle(msgspec.Struct, frozen=True):
    """signer: the key of who packed it and signed the image."""

    release: ReleaseImage
    signer: str
    archive_without: ArchiveProvider


@contextmanager
def open_offline_bundle(place: Path) -> Iterator[OpenedBundle]:
    """The list, whose signature was checked, and the archives, each checked when it is asked for. UsageError: not an
    offline bundle, or cut; RecordError: not what its signer signed."""
    with ExitStack() as opened:
        try:
            file = opened.enter_context(place.open("rb"))
            bundle = _read_contents(file, place)
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="edge-stick-"))
            reader = ArchiveReader(file, place, bundle, Path(folder))
        except (OSError, tarfile.TarError) as error:
            raise UsageError(
                f"{place}: not an offline bundle ({error}); expected a file that `toolchain pack` wrote"
            ) from error
        yield OpenedBundle(bundle.release, bundle.key, reader.archive_without)


def _read_contents(file: IO[bytes], place: Path) -> OfflineBundle:
    """The first member, whose signature and whose image's signature are valid and by one key."""
    name, size = read_plain_header(file.read(BLOCK))
    if name != CONTENTS or size > CONTENTS_BYTES:
        raise tarfile.TarError(f"it begins with {name[:80]!r} of {size} bytes")
    document = file.read(size)
    _expect_padding(file, size)
    where = f"{place}:{CONTENTS}"
    if format_number(document, "list", where) == 1:
        raise RecordError(f"{place}: an offline bundle of format 1, which is not signed; pack it again: toolchain pack")
    bundle = decode_record(document, OfflineBundle, where, FORMAT)
    verify_document(document, bundle.key, bundle.signature, where)
    release = bundle.release
    signer = check_signature(release.signature, release.content, release.labels, f"{place}: {release.tag}").key
    if signer != bundle.key:
        raise RecordError(f"{place}: the list is signed by {short_key(bundle.key)}, the image by {short_key(signer)}")
    return bundle


def _locate_archives(file: IO[bytes], bundle: OfflineBundle) -> dict[int, int]:
    """Where the content of each archive begins, by the layers that it leaves out; headers alone are read. TarError:
    other members than those of the list."""
    places = dict[int, int]()
    for archive in bundle.archives:
        name, size = read_plain_header(file.read(BLOCK))
        if (name, size) != (archive.name, archive.size_bytes):
            raise tarfile.TarError(f"{name[:80]!r} of {size} bytes where {archive.name} is listed")
        places[archive.left_out] = file.tell()
        file.seek(size, 1)
        _expect_padding(file, size)
    if file.read(len(PLAIN_END) + 1) != PLAIN_END:
        raise tarfile.TarError("it is cut, or holds more than its list")
    return places


def _expect_padding(file: IO[bytes], size: int) -> None:
    if file.read(padding(size)) != bytes(padding(size)):
        raise tarfile.TarError("it is cut, or holds more than its list")


class ArchiveReader:
    """Copies archives out of an open bundle, each once, into a folder that nobody else writes to."""

    def __init__(self, file: IO[bytes], place: Path, bundle: OfflineBundle, folder: Path) -> None:
        self._file, self._place, self._folder, self._lock = file, place, folder, Lock()
        self._archives, self._offsets = bundle.archives, _locate_archives(file, bundle)

    def archive_without(self, present: int) -> tuple[int, Path]:
        """The archive that leaves out most of the first `present` layers. ShipError: none leaves out so few, or it was
        changed."""
        for archive in reversed(self._archives):
            if archive.left_out <= present:
                with self._lock:  # several servers
                    return archive.left_out, self._extract(archive)
        raise ShipError(
            f"this bundle leaves out {self._archives[0].left_out} layers, of which the server has only {present}: "
            "pack it again without --for"
        )

    def _extract(self, archive: LayerArchive) -> Path:
        target = self._folder / archive.name
        if target.is_file():
            return target
        running, left = sha256(), archive.size_bytes
        self._file.seek(self._offsets[archive.left_out])
        with atomic_file(target) as temporary, temporary.open("wb") as copy:
            while left and (block := self._file.read(min(CHUNK_BYTES, left))):
                running.update(block)
                copy.write(block)
                left -= len(block)
            if running.hexdigest() != archive.sha256:
                raise ShipError(f"{self._place}: {archive.name} in it was changed or truncated; copy the file again")
        return target
