"""Offline bundles: a release in one file, for servers that this machine cannot reach (air-gapped).

A tar of `stick.json` (what it holds, with digests and the signature) and archives of the image: one for each set of
layers that the named servers had when they were last reached, or the whole image if that is not known.
"""

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from docker import DockerClient

from deploy.docker.tar import add_member
from deploy.servers.layer_archive import count_present_layers
from deploy.servers.release_image import ReleaseImage
from deploy.servers.server import ShipError
from deploy.servers.transfer import ArchiveProvider, archive_provider, last_known_layers
from toolchain.errors import RecordError, UsageError
from toolchain.records.storage import atomic_file, decode_record, digest_of, encode_record

CONTENTS = "stick.json"
FORMAT = 1


class LayerArchive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """left_out: how many of the image's lowest layers it leaves out."""

    name: str
    sha256: str
    left_out: int


class OfflineBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """archives: the one that leaves out most comes last."""

    parcel: ReleaseImage
    archives: tuple[LayerArchive, ...]
    format: int = FORMAT


def write_offline_bundle(client: DockerClient, sent: ReleaseImage, servers: Sequence[str], out: Path) -> OfflineBundle:
    """Write the bundle for `servers`; without servers, it holds the whole image."""
    present = {count_present_layers(sent.content.layers, last_known_layers(server)) for server in servers} or {0}
    made = archive_provider(client, sent)
    files = {f"image-{count}.tar.gz": made(count) for count in sorted(present)}
    stick = OfflineBundle(
        sent, tuple(LayerArchive(name, digest_of(file), count) for name, (count, file) in files.items())
    )
    with atomic_file(out) as temporary, tarfile.open(temporary, "w") as written:
        add_member(written, CONTENTS, encode_record(stick))
        for name, (_, file) in files.items():
            written.add(file, name)
    return stick


@contextmanager
def open_offline_bundle(place: Path) -> Iterator[tuple[ReleaseImage, ArchiveProvider]]:
    """The verified contents. UsageError: not an offline bundle; ShipError: it was changed."""
    with tempfile.TemporaryDirectory(prefix="edge-stick-") as at:
        folder = Path(at)
        try:
            with tarfile.open(place) as written:
                written.extractall(folder, filter="data")
            stick = decode_record((folder / CONTENTS).read_bytes(), OfflineBundle, f"{place}:{CONTENTS}", FORMAT)
        except (OSError, tarfile.TarError, RecordError) as error:
            raise UsageError(
                f"{place}: not an offline bundle ({error}); expected a file that `toolchain pack` wrote"
            ) from error
        for one in stick.archives:
            if not (folder / one.name).is_file() or digest_of(folder / one.name) != one.sha256:
                raise ShipError(f"{place}: {one.name} in it was changed or truncated; copy the file again")

        def archive_without(present: int) -> tuple[int, Path]:
            for one in reversed(stick.archives):
                if one.left_out <= present:
                    return one.left_out, folder / one.name
            raise ShipError(
                f"this bundle leaves out {stick.archives[0].left_out} layers, of which the server has only {present}: "
                "pack it again without --for"
            )

        yield stick.parcel, archive_without
