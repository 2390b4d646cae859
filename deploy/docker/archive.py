"""Archives for `docker load`: one image in one canonical form, which is checked before an engine reads it.

An engine's loader takes whatever an archive lists: further images, names of foreign images, links. So only archives of
one form are loaded: gzip around a plain tar that is an OCI layout of one image without a name, with the `manifest.json`
of Docker's own format, which older engines read. Layers are uncompressed: their digests are their diff ids. Every
byte of such an archive follows from the image's content (ImageContent) and the number of layers left out, and the
check compares every byte with that. Names are given after loading.
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

from deploy.docker.tar import BLOCK, PLAIN_BYTES, PLAIN_END, padding, plain_header, read_plain_header
from toolchain.errors import DockerError

MANIFEST, INDEX, LAYOUT = "manifest.json", "index.json", "oci-layout"
LEVEL = 6
CHUNK_BYTES = 1 << 20
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
OCI = "application/vnd.oci.image."
LAYOUT_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class ArchiveError(DockerError):
    """An archive that is not what was announced; nothing of it may be loaded."""


class ImageContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What identifies an image on every engine. config: digest of its configuration; layers: diff ids, lowest first
    (all as `sha256:…`); config_bytes, layer_bytes: their sizes, a layer's as an uncompressed tar."""

    config: str
    config_bytes: int
    layers: tuple[str, ...]
    layer_bytes: tuple[int, ...]

    @property
    def manifest(self) -> bytes:
        """The OCI manifest of the image with uncompressed layers."""
        layers = zip(self.layers, self.layer_bytes, strict=True)
        return _json(
            schemaVersion=2,
            mediaType=f"{OCI}manifest.v1+json",
            config=_descriptor("config.v1+json", self.config, self.config_bytes),
            layers=[_descriptor("layer.v1.tar", layer, size) for layer, size in layers],
        )

    @property
    def manifest_digest(self) -> str:
        """What the containerd store calls the image after loading; the classic store calls it `config`."""
        return digest_text(self.manifest)


class ImageFiles(Protocol):
    """What an archive is written from (saved_image.py)."""

    configuration: bytes

    def open_layer(self, layer: str) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """The uncompressed tar of a layer, and its size in bytes."""


def digest_text(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def write_archive(image: ImageFiles, content: ImageContent, left_out: int, out: IO[bytes], level: int = LEVEL) -> None:
    """Write the canonical archive, without the `left_out` lowest layers. The same image gives the same bytes. level: of
    gzip.
    ArchiveError: a layer is not what its diff id says."""
    check_content(content)
    _expect_digest(iter([image.configuration]), content.config, "the engine's configuration of the image")
    with gzip.GzipFile("", "wb", level, out, mtime=0) as packed:
        for name, document in _documents(content):
            _write_member(packed, name, document)
        _write_member(packed, _blob_name(content.config), image.configuration)
        for layer, expected in _packed_layers(content, left_out).items():
            with image.open_layer(layer) as (stream, size):
                packed.write(plain_header(_blob_name(layer), size))
                _expect_digest(_copied(_blocks(stream.read, size), packed.write), layer, "the engine's layer")
            if size != expected:
                raise ArchiveError(f"the layer {layer[:19]} has {size} bytes, and {expected} were announced")
            packed.write(bytes(padding(size)))
        packed.write(PLAIN_END)


def check_archive(file: IO[bytes], content: ImageContent, left_out: int) -> None:
    """Read the archive in `file` to its end and compare it with `content`; no more is unpacked than was announced, and
    none of it is kept. ArchiveError: anything differs, is missing or is there besides."""
    check_content(content)
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as packed:
            for name, document in _documents(content):
                _expect_member(packed, name, digest_text(document), len(document))
            _expect_member(packed, _blob_name(content.config), content.config, content.config_bytes)
            for layer, size in _packed_layers(content, left_out).items():
                _expect_member(packed, _blob_name(layer), layer, size)
            _expect_end(packed)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ArchiveError(f"the archive of the image is damaged or truncated ({error})") from error


def check_content(content: ImageContent) -> None:
    """ArchiveError for what no image has: digests of another form, sizes that are none."""
    for digest in (content.config, *content.layers):
        if not DIGEST.fullmatch(digest):
            raise ArchiveError(f"{digest[:80]!r} is no digest; expected sha256: and 64 hex digits")
    if len(content.layers) != len(content.layer_bytes):
        raise ArchiveError(f"{len(content.layer_bytes)} sizes are announced for {len(content.layers)} layers")
    for size in (content.config_bytes, *content.layer_bytes):
        if not 0 <= size <= PLAIN_BYTES:
            raise ArchiveError(f"{size} bytes are announced for a layer; an archive takes at most {PLAIN_BYTES} each")


def _packed_layers(content: ImageContent, left_out: int) -> dict[str, int]:
    """Size by layer of those in the archive, each once."""
    if not 0 <= left_out <= len(content.layers):
        raise ArchiveError(f"{left_out} of {len(content.layers)} layers cannot be left out")
    return dict(list(zip(content.layers, content.layer_bytes, strict=True))[left_out:])


def _documents(content: ImageContent) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the members before the configuration."""
    manifest, names = content.manifest, [_blob_name(layer) for layer in content.layers]
    described = _descriptor("manifest.v1+json", content.manifest_digest, len(manifest))
    yield LAYOUT, LAYOUT_VERSION
    yield INDEX, _json(schemaVersion=2, mediaType=f"{OCI}index.v1+json", manifests=[described])
    yield MANIFEST, b"[" + _json(Config=_blob_name(content.config), RepoTags=None, Layers=names) + b"]"
    yield _blob_name(content.manifest_digest), manifest


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": f"{OCI}{kind}", "digest": digest, "size": size}


def _json(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _expect_member(packed: gzip.GzipFile, name: str, digest: str, size: int) -> None:
    _expect_header(_read_exactly(packed, BLOCK), name, size)
    _expect_digest(_blocks(lambda count: _read_exactly(packed, count), size), digest, name[-64:][:19])
    if any(_read_exactly(packed, padding(size))):
        raise ArchiveError(f"the archive has something behind {name[:40]} that belongs to no file")


def _expect_header(block: bytes, name: str, size: int) -> None:
    try:
        found, declared = read_plain_header(block)
    except tarfile.TarError as error:
        raise ArchiveError(f"the archive does not hold {name[:80]!r} where it is expected: {error}") from error
    if found != name:
        raise ArchiveError(f"the archive holds {found[:80]!r} where {name[:80]!r} is expected")
    if declared != size:
        raise ArchiveError(f"the archive declares {declared} bytes for {name[:40]}; expected {size}")


def _expect_end(packed: gzip.GzipFile) -> None:
    if packed.read(len(PLAIN_END) + 1) != PLAIN_END:
        raise ArchiveError("the archive holds more than the image that was announced, or is cut")


def _read_exactly(packed: gzip.GzipFile, size: int) -> bytes:
    content = packed.read(size)
    if len(content) < size:
        raise EOFError("it ends early")
    return content


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _write_member(packed: gzip.GzipFile, name: str, content: bytes) -> None:
    packed.write(plain_header(name, len(content)) + content + bytes(padding(len(content))))


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
