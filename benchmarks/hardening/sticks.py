"""Offline bundles, image archives, manifests and signatures changed in seeded ways: none may be taken.

A real bundle of a null-target image is changed at random: bytes of the file, fields of its list, members of its archive
with all digests refitted. Some changes are signed again, by an attacker's key or, to see that the next check holds as
well, by the true key. What is taken is what would reach `docker load`: the list opens, the server (this machine's
engine, which trusts nobody yet) accepts the signer, and the archive passes. The unchanged bundle is taken.
"""

import io
import json
import os
import random
import tarfile
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from gzip import decompress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from docker import DockerClient
from nacl.signing import SigningKey

from benchmarks.rows import Row, guarded_rows, print_rows, row
from deploy.docker.archive import check_archive
from deploy.docker.engine import connect
from deploy.images.build import build_image
from deploy.images.signatures import own_public_key, public_key, read_signing_key, sign_document
from deploy.servers.docker_server import DockerServer, ServerConnection
from deploy.servers.inventory import RolloutPolicy, ServerConfig
from deploy.servers.release_image import read_release_image
from deploy.servers.transfer import NO_SOURCE, record_layers
from deploy.ship.offline import open_offline_bundle, write_offline_bundle
from tests.bundles import null_bundle
from tests.journeys.conftest import lend_wheelhouse
from tests.names import own_name
from tests.offline_bundles import Members, bundle_bytes, edit_list, plain_archive, read_members, replace_archive
from toolchain.errors import ToolchainError

CHANGES = 40 if os.environ.get("QUICK") else 200
SERVER = "line-1"


class Target(NamedTuple):
    """members: of the true bundle; left_out: layers that its archive leaves out; keys: the true one, an attacker's."""

    members: Members
    left_out: int
    key: SigningKey
    attacker: SigningKey

    @property
    def archive(self) -> str:
        return f"image-{self.left_out}.tar.gz"


Change = Callable[[Target, random.Random], bytes]


def changed_bytes(text: bytes, chance: random.Random) -> bytes:
    """A byte flipped, a piece cut out, doubled, replaced or put in, or the end cut off."""
    at, length = chance.randrange(len(text)), chance.randint(1, 600)
    piece = text[at : at + length]
    return chance.choice(
        (
            text[:at] + bytes([text[at] ^ (1 << chance.randrange(8))]) + text[at + 1 :],
            text[:at] + text[at + length :],
            text[:at] + piece + text[at:],
            text[:at] + bytes(byte ^ 0x55 for byte in piece) + text[at + length :],
            text[:at] + chance.randbytes(length) + text[at:],
            text[:at],
        )
    )


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield from leaves(value, (*path, key)) if isinstance(value, dict | list) else iter([(*path, key)])


def change_leaf(document: Any, path: tuple[Any, ...], chance: random.Random) -> None:
    """Another value of the same kind, or none at all."""
    *way, last = path
    for key in way:
        document = document[key]
    value = document[last]
    if isinstance(document, dict) and chance.random() < 0.1:
        del document[last]
    elif isinstance(value, str) and value:
        at = chance.randrange(len(value))
        document[last] = value[:at] + chance.choice("0123456789abcdef".replace(value[at], "")) + value[at + 1 :]
    else:
        document[last] = chance.randint(1, 9) + (value if isinstance(value, int) else 0)


def bytes_of_the_file(target: Target, chance: random.Random) -> bytes:
    return changed_bytes(bundle_bytes(target.members), chance)


def field_of_the_list(target: Target, chance: random.Random) -> bytes:
    return bundle_bytes(
        edit_list(target.members, lambda listed: change_leaf(listed, chance.choice(list(leaves(listed))), chance))
    )


def list_signed_by_an_attacker(target: Target, chance: random.Random) -> bytes:
    """With an image of the attacker's own making, or with the true one's signature."""

    def edit(listed: Any) -> None:
        release = listed["release"]
        if chance.random() < 0.5:
            release["labels"][chance.choice(list(release["labels"]))] += "x"
            made = {"content": release["content"], "labels": release["labels"], "format": 2}
            made |= {"signed_at": "2030-01-01T00:00:00+00:00", "key": public_key(target.attacker)}
            made["signature"] = sign_document(json.dumps(made).encode(), target.attacker)
            release["signature"] = b64encode(json.dumps(made).encode()).decode()

    return bundle_bytes(edit_list(target.members, edit, target.attacker))


def release_under_another_name(target: Target, chance: random.Random) -> bytes:
    """What is claimed of the image is changed, and the list signed by the true key: the image's signature remains."""

    def edit(listed: Any) -> None:
        claims = [path for path in leaves(listed) if path[:2] in (("release", "labels"), ("release", "content"))]
        change_leaf(listed, chance.choice(claims), chance)

    return bundle_bytes(edit_list(target.members, edit, target.key))


def signature_of_the_image(target: Target, chance: random.Random) -> bytes:
    """The same in the image's signature."""

    def edit(listed: Any) -> None:
        fields = json.loads(b64decode(listed["release"]["signature"]))
        change_leaf(fields, chance.choice(list(leaves(fields))), chance)
        listed["release"]["signature"] = b64encode(json.dumps(fields).encode()).decode()

    return bundle_bytes(edit_list(target.members, edit, target.key))


def bytes_of_the_archive(target: Target, chance: random.Random) -> bytes:
    """Inside of its compression; all digests are right and signed by the true key: the archive's form remains."""
    plain = changed_bytes(decompress(target.members[target.archive]), chance)
    return bundle_bytes(replace_archive(target.members, plain, target.key))


def members_of_the_archive(target: Target, chance: random.Random) -> bytes:
    """One more, one less, in another order, under another name, as a link, or with a name for the image."""
    with tarfile.open(fileobj=io.BytesIO(target.members[target.archive])) as old:
        entries = [(entry, old.extractfile(entry)) for entry in old]
        members = [(entry, file.read() if file else b"") for entry, file in entries]
        chance.choice(MEMBER_CHANGES)(members, chance)
    for entry, text in members:
        entry.size = len(text)
    return bundle_bytes(replace_archive(target.members, plain_archive(members), target.key))


Entries = list[tuple[tarfile.TarInfo, bytes]]


def named_image(members: Entries, chance: random.Random) -> None:
    """The image, or a second one, is called what something else on the server is called."""
    place = next(number for number, (entry, _) in enumerate(members) if entry.name == "manifest.json")
    images = json.loads(members[place][1])
    image = {**images[0], chance.choice(("RepoTags", "repotags")): ["other-app:latest"]}
    images = [image] if chance.random() < 0.5 else [*images, image]
    members[place] = (members[place][0], json.dumps(images, separators=(",", ":")).encode())


def more(members: Entries, chance: random.Random) -> None:
    name = chance.choice(("repositories", "../x", "/etc/cron.d/x", "blobs/sha256/" + "0" * 64, "manifest.json"))
    members.insert(chance.randint(0, len(members)), (tarfile.TarInfo(name), chance.randbytes(20)))


def link(members: Entries, chance: random.Random) -> None:
    entry = tarfile.TarInfo("x")
    entry.type = chance.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
    entry.linkname = chance.choice(("/etc/passwd", "../../x", "manifest.json"))
    members.insert(chance.randint(0, len(members)), (entry, b""))


def less(members: Entries, chance: random.Random) -> None:
    del members[chance.randrange(len(members))]


def order(members: Entries, chance: random.Random) -> None:
    members.append(members.pop(chance.randrange(len(members) - 1)))


def renamed(members: Entries, chance: random.Random) -> None:
    members[chance.randrange(len(members))][0].name += "x"


MEMBER_CHANGES: tuple[Callable[[Entries, random.Random], None], ...] = (named_image, more, link, less, order, renamed)
KINDS: tuple[Change, ...] = (
    bytes_of_the_file,
    field_of_the_list,
    list_signed_by_an_attacker,
    release_under_another_name,
    signature_of_the_image,
    bytes_of_the_archive,
    members_of_the_archive,
)


def is_taken(place: Path, client: DockerClient) -> bool:
    """Whether a server that trusts nobody yet would load what is in the file. Anything but a line of ours is raised."""
    here = ServerConnection(ServerConfig("here", "local"), client, "")
    try:
        with open_offline_bundle(place) as opened:
            own = opened.signer == own_public_key()
            DockerServer(here, opened.release, NO_SOURCE, RolloutPolicy(), False, own).check(opened.release.release)
            left_out, file = opened.archive_without(len(opened.release.content.layers))
            with file.open("rb") as archive:
                check_archive(archive, opened.release.content, left_out)
    except ToolchainError as error:
        assert "\n" not in str(error), error
        return False
    return True


@contextmanager
def true_bundle(client: DockerClient, folder: Path) -> Iterator[Target]:
    """Of a real image, for a server that has all of it but the model's layer."""
    before = os.environ.get("TOOLCHAIN_HOME")
    os.environ["TOOLCHAIN_HOME"] = str(folder / "home")
    lend_wheelhouse(folder / "home")
    tag = own_name("edge-bench-sticks") + ":1"
    try:
        build_image(null_bundle(folder / "b", name=own_name("sticks")), tag)
        sent = read_release_image(client, tag)
        record_layers(SERVER, client)
        below = msgspec.json.encode([sent.content.layers[:-1]])
        (folder / "home" / "servers" / f"{SERVER}.json").write_bytes(below)
        (archive,) = write_offline_bundle(client, sent, (SERVER,), folder / "true.tar").archives
        yield Target(read_members(folder / "true.tar"), archive.left_out, read_signing_key(), SigningKey.generate())
    finally:
        client.images.remove(tag, force=True)
        os.environ.pop("TOOLCHAIN_HOME")
        os.environ.update({"TOOLCHAIN_HOME": before} if before is not None else {})


def rows() -> list[Row]:
    with closing(connect()) as client, tempfile.TemporaryDirectory() as at, true_bundle(client, Path(at)) as target:
        place, taken = Path(at) / "changed.tar", list[str]()
        place.write_bytes(bundle_bytes(target.members))
        unchanged = is_taken(place, client)
        for seed in range(CHANGES):
            change = KINDS[seed % len(KINDS)]
            place.write_bytes(change(target, random.Random(seed)))
            if is_taken(place, client):
                taken.append(f"seed {seed}, {change.__name__}")
        return [
            row("offline bundles that were not changed and were taken", float(unchanged), ">=", 1, ""),
            row(
                f"of {CHANGES} changed bundles, lists, archives and signatures, taken",
                len(taken),
                "<=",
                0,
                "",
                "; ".join(taken),
            ),
        ]


if __name__ == "__main__":
    print_rows(guarded_rows("sticks", rows))
