"""Offline bundles taken apart and put together again, with every digest refitted, as an attacker does."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from gzip import compress, decompress
from hashlib import sha256
from pathlib import Path
from typing import Any

from docker import DockerClient
from nacl.signing import SigningKey

from deploy.docker.archive import digest_text
from deploy.docker.tar import BLOCK, PLAIN_END, padding, plain_header
from deploy.images.signatures import public_key, read_signing_key, sign_document
from deploy.ship.offline import CONTENTS

Members = dict[str, bytes]


def read_members(place: Path) -> Members:
    """By name, in the file's order."""
    with tarfile.open(place) as archive:
        return {entry.name: file.read() for entry in archive if (file := archive.extractfile(entry))}


def bundle_bytes(members: Mapping[str, bytes]) -> bytes:
    files = (plain_header(name, len(text)) + text + bytes(padding(len(text))) for name, text in members.items())
    return b"".join(files) + PLAIN_END


def edit_list(members: Members, edit: Callable[[Any], object], key: SigningKey | None = None) -> Members:
    """With another list, signed by `key` where there is one."""
    listed = json.loads(members[CONTENTS])
    edit(listed)
    if key is not None:
        listed["key"] = public_key(key)
        listed["signature"] = sign_document(json.dumps(listed).encode(), key)
    return {**members, CONTENTS: json.dumps(listed).encode()}


def replace_archive(members: Members, plain: bytes, key: SigningKey) -> Members:
    """With another tar in the only archive, signed by `key`."""
    (name,) = set(members) - {CONTENTS}
    archive = compress(plain)
    refit = {"sha256": sha256(archive).hexdigest(), "size_bytes": len(archive)}
    return edit_list({**members, name: archive}, lambda listed: listed["archives"][0].update(refit), key)


def plain_archive(members: Sequence[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of members of any kind, which ends as plain archives do."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as archive:
        for entry, text in members:
            archive.addfile(entry, io.BytesIO(text))
        end = archive.offset
    return held.getvalue()[:end] + PLAIN_END


def add_image(plain: bytes, name: str) -> bytes:
    """The archive with one more image, called `name`: what `docker load` would take."""
    members = Members()
    place = 0
    while header := plain[place : place + BLOCK].rstrip(b"\0"):
        size = int(plain[place + 124 : place + 135], 8)
        members[header[:100].split(b"\0")[0].decode()] = plain[place + BLOCK : place + BLOCK + size]
        place += BLOCK + size + padding(size)
    (image,) = json.loads(members["manifest.json"])
    document = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    config = f"blobs/sha256/{digest_text(document)[7:]}"
    more = {"Config": config, "RepoTags": [name], "Layers": []}
    return bundle_bytes({**members, "manifest.json": json.dumps([image, more]).encode(), config: document})


@contextmanager
def foreign_image(client: DockerClient, name: str = "other-app:latest") -> Iterator[str]:
    """The name of an image on an engine that has nothing to do with us, and is still what it was in the end."""
    repository, _, tag = name.partition(":")
    client.api.import_image_from_data(bytes(1024), repository=repository, tag=tag)
    before = client.images.get(name).id
    yield name
    assert client.images.get(name).id == before
    client.images.remove(name)


@contextmanager
def second_image(stick: Path, name: str) -> Iterator[Path]:
    """The bundle with a second image called `name` in its archive, signed by this toolchain's own key."""
    members = read_members(stick)
    (archive,) = set(members) - {CONTENTS}
    attack = replace_archive(members, add_image(decompress(members[archive]), name), read_signing_key())
    place = stick.with_name("attack.tar")
    place.write_bytes(bundle_bytes(attack))
    yield place
    place.unlink()
