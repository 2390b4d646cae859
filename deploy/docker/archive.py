"""Archives for `docker load`: one image in one canonical form, which is checked before an engine reads it.

An engine's loader takes whatever an archive lists: further images, names of foreign images, links. So only archives of
one form are loaded: gzip around a plain tar of `manifest.json`, the configuration and the layers, uncompressed and
lowest first, each named by its digest. What such an archive holds follows from the digest of the configuration, the
diff ids of the layers and the number of layers left out; the check compares every byte with that. No archive names an
image: names are given after loading.
"""

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import IO, Protocol

import msgspec

from toolchain.errors import DockerError

MANIFEST = "manifest.json"
LEVEL = 6
BLOCK = 512  # of a tar
CHUNK_BYTES = 1 << 20
CONFIGURATION_BYTES = 1 << 20  # at most; ours have 5 kB
END_BYTES = 20 * BLOCK  # zeros that end a tar, at most
MAGIC = b"ustar\x0000"
OCTAL = re.compile(rb"[0-7]{11}\0")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ArchiveError(DockerError):
    """An archive that is not what was announced; nothing of it may be loaded."""


class ArchiveContents(msgspec.Struct, frozen=True):
    """What an archive must hold. config: digest of the image's configuration; layers: diff ids, lowest first (all as
    `sha256:…`); left_out: how many of the lowest layers are not in it."""

    config: str
    layers: tuple[str, ...]
    left_out: int = 0

    @property
    def manifest(self) -> bytes:
        names = [_member_name(layer, "tar") for layer in self.layers]
        entry = {"Config": _member_name(self.config, "json"), "RepoTags": None, "Layers": names}
        return json.dumps([entry], separators=(",", ":")).encode()

    @property
    def packed_layers(self) -> tuple[str, ...]:
        """Those in the archive, each once."""
        return tuple(dict.fromkeys(self.layers[self.left_out :]))


class ImageFiles(Protocol):
    """What an archive is written from (saved_image.py)."""

    configuration: bytes

    def open_layer(self, layer: str) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """The uncompressed tar of a layer, and its size in bytes."""


def digest_text(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def write_archive(image: ImageFiles, contents: ArchiveContents, out: IO[bytes]) -> int:
    """Write the canonical archive; the size of the tar in it, in bytes. The same image gives the same bytes.
    ArchiveError: a layer is not what its diff id says."""
    _expect_digest(iter([image.configuration]), contents.config, "the engine's configuration of the image")
    with gzip.GzipFile("", "wb", LEVEL, out, mtime=0) as packed:
        _write_member(packed, MANIFEST, contents.manifest)
        _write_member(packed, _member_name(contents.config, "json"), image.configuration)
        for layer in contents.packed_layers:
            with image.open_layer(layer) as (stream, size):
                packed.write(_header(_member_name(layer, "tar"), size))
                _expect_digest(_copied(_blocks(stream.read, size), packed.write), layer, "the engine's layer")
            packed.write(bytes(-size % BLOCK))
        packed.write(bytes(2 * BLOCK))
        return packed.tell()


def check_archive(file: IO[bytes], contents: ArchiveContents, limit_bytes: int) -> None:
    """Read the archive in `file` to its end and compare it with `contents`; at most `limit_bytes` of tar are unpacked,
    and none of it is kept. ArchiveError: anything differs, is missing or is there besides."""
    _require_digests(contents)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as packed:
            reader = _BoundedReader(packed, limit_bytes)
            reader.expect(MANIFEST, digest_text(contents.manifest), len(contents.manifest))
            reader.expect(_member_name(contents.config, "json"), contents.config, CONFIGURATION_BYTES)
            for layer in contents.packed_layers:
                reader.expect(_member_name(layer, "tar"), layer, limit_bytes)
            reader.expect_end()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArchiveError(f"the archive of the image is damaged or truncated ({error})") from error


class _BoundedReader:
    """Members of a tar one after the other, each as it is expected."""

    def __init__(self, packed: gzip.GzipFile, limit_bytes: int) -> None:
        self._packed, self._left = packed, limit_bytes

    def expect(self, name: str, digest: str, limit_bytes: int) -> None:
        size = self._expect_header(name)
        if size > limit_bytes:
            raise ArchiveError(f"the archive declares {size} bytes for {name[:19]}; at most {limit_bytes} are expected")
        _expect_digest(_blocks(self._read, size), digest, name[:19])
        if any(self._read(-size % BLOCK)):
            raise ArchiveError(f"the archive has something behind {name[:19]} that belongs to no file")

    def expect_end(self) -> None:
        rest = self._packed.read(END_BYTES + 1)
        if any(rest) or not 2 * BLOCK <= len(rest) <= END_BYTES:
            raise ArchiveError("the archive holds more than the image that was announced, or is cut")

    def _expect_header(self, name: str) -> int:
        """The size of the member `name`, a plain file in the oldest form of tar's headers."""
        block = self._read(BLOCK)
        entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        plain = entry.isreg() and block[156:157] == tarfile.REGTYPE and block[257:265] == MAGIC
        plain = plain and not any(block[157:257]) and not any(block[345:]) and bool(OCTAL.fullmatch(block[124:136]))
        if not plain or block[:100].rstrip(b"\0") != name.encode():
            raise ArchiveError(f"the archive holds {entry.name[:80]!r} where {name[:80]!r} is expected")
        return entry.size

    def _read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise ArchiveError("the archive unpacks to more than was announced")
        content = self._packed.read(size)
        if len(content) < size:
            raise EOFError("it ends early")
        return content


def _require_digests(contents: ArchiveContents) -> None:
    for digest in (contents.config, *contents.layers):
        if not DIGEST.fullmatch(digest):
            raise ArchiveError(f"{digest[:80]!r} is no digest; expected sha256: and 64 hex digits")
    if not 0 <= contents.left_out <= len(contents.layers):
        raise ArchiveError(f"{contents.left_out} of {len(contents.layers)} layers cannot be left out")


def _member_name(digest: str, suffix: str) -> str:
    return f"{digest.rpartition(':')[2]}.{suffix}"


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _write_member(packed: gzip.GzipFile, name: str, content: bytes) -> None:
    packed.write(_header(name, len(content)) + content + bytes(-len(content) % BLOCK))


def _blocks(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (block := read(min(CHUNK_BYTES, size))):
        size -= len(block)
        yield block


def _copied(blocks: Iterator[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for block in blocks:
        write(block)
        yield block


def _expect_digest(blocks: Iterator[bytes], digest: str, what: str) -> None:
    running = sha256()
    for block in blocks:
        running.update(block)
    if f"sha256:{running.hexdigest()}" != digest:
        raise ArchiveError(f"{what} is not what was announced: {running.hexdigest()[:12]}, expected {digest[7:19]}")
