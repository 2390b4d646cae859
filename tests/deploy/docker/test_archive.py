"""Archives for `docker load`: only the image that was announced, to the byte; and what a real engine makes of it."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import docker.errors
import pytest
from docker import DockerClient

from deploy.docker.archive import ArchiveContents, ArchiveError, check_archive, digest_text, write_archive
from deploy.docker.engine import connect
from deploy.docker.saved_image import SavedImage
from tests.deploy.docker.images import LAYERS, configuration, contents, layer, saved_by_20_10
from tests.names import own_name

LIMIT = 1 << 20
FOREIGN = own_name("edge-test-other-app") + ":latest"


def archive(left_out: int = 0) -> bytes:
    held = io.BytesIO()
    write_archive(SavedImage(io.BytesIO(saved_by_20_10())), contents(left_out), held)
    return held.getvalue()


def check(content: bytes, wanted: ArchiveContents | None = None, limit: int = LIMIT) -> None:
    check_archive(io.BytesIO(content), wanted or contents(), limit)


@pytest.mark.parametrize("left_out", [0, 1, 3])
def test_the_archive_of_an_image_passes_and_is_the_same_bytes_each_time(left_out: int) -> None:
    check(archive(left_out), contents(left_out))
    assert archive(left_out) == archive(left_out)


def test_the_size_that_is_returned_is_the_least_limit_that_suffices() -> None:
    held = io.BytesIO()
    size = write_archive(SavedImage(io.BytesIO(saved_by_20_10())), contents(), held)
    assert size == len(gzip.decompress(held.getvalue()))
    check(held.getvalue(), limit=size)
    with pytest.raises(ArchiveError, match=r"more than was announced|bytes for"):
        check(held.getvalue(), limit=size - 4 * 512)


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]


def member(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for field, value in more.items():
        setattr(entry, field, value)
    return entry, content


def rebuilt(change: Change, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """The archive with its members changed."""
    held = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive())) as old, tarfile.open(fileobj=held, mode="w", format=form) as new:
        members = [(entry, old.extractfile(entry).read()) for entry in old]  # type: ignore[union-attr]  # all are files
        change(members)
        for entry, content in members:
            new.addfile(entry, io.BytesIO(content))
    return gzip.compress(held.getvalue())


def swap(place: int, content: bytes) -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[place] = member(members[place][0].name, content)

    return change


def listed(**more: object) -> Change:
    """Another manifest.json."""
    return swap(0, json.dumps([{**json.loads(contents().manifest)[0], **more}], separators=(",", ":")).encode())


def second_image(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """The attack that succeeded: one more image, under the name of something else on that server."""
    config = configuration((LAYERS[0],))
    name = f"{digest_text(config)[7:]}.json"
    entry = {"Config": name, "RepoTags": [FOREIGN], "Layers": [f"{digest_text(LAYERS[0])[7:]}.tar"]}
    swap(0, json.dumps([*json.loads(contents().manifest), entry]).encode())(members)
    members.append(member(name, config))


ATTACKS: dict[str, Change] = {
    "one more image": second_image,
    "a tag": listed(RepoTags=[FOREIGN]),
    "a tag in another spelling": listed(repotags=[FOREIGN]),
    "one more file": lambda members: members.append(member("repositories", b"{}")),
    "one more layer": lambda members: members.append(member("0" * 64 + ".tar", LAYERS[0])),
    "an OCI index in front": lambda members: members.insert(0, member("index.json", b"{}")),
    "another configuration": swap(1, configuration(labels={"dev.edge-toolchain.name": "other"})),
    "another layer": swap(3, layer("second", b"9" * 700)),
    "layers in another order": lambda members: members.append(members.pop(2)),
    "a file twice": lambda members: members.insert(2, members[1]),
    "a missing layer": lambda members: members.pop(),
    "a symbolic link": lambda members: members.insert(2, member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a link for a layer": swap(2, b""),
    "a hard link": lambda members: members.append(member("x", type=tarfile.LNKTYPE, linkname="manifest.json")),
    "an absolute name": lambda members: members.append(member("/etc/cron.d/x", b"x")),
    "a name that leaves": lambda members: members.append(member("../x", b"x")),
    "a folder": lambda members: members.insert(0, member("blobs", type=tarfile.DIRTYPE)),
    "a device": lambda members: members.append(member("null", type=tarfile.CHRTYPE)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_with_anything_else_is_refused(attack: str) -> None:
    with pytest.raises(ArchiveError):
        check(rebuilt(ATTACKS[attack]))


def test_what_tells_a_member_in_another_way_is_refused() -> None:
    def renamed(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[0][0].pax_headers = {"path": "index.json"}

    with pytest.raises(ArchiveError, match=r"holds '././@PaxHeader' where 'manifest.json' is expected"):
        check(rebuilt(renamed, tarfile.PAX_FORMAT))


@pytest.mark.parametrize("cut", [0, 10, 300, -9, -1])
def test_an_archive_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(ArchiveError, match="damaged or truncated"):
        check(archive()[:cut])


def test_what_follows_the_archive_is_refused() -> None:
    plain = gzip.decompress(archive())
    for more in (plain, bytes(4 << 20), b"x" * 512):
        with pytest.raises(ArchiveError, match="more than the image that was announced"):
            check(gzip.compress(plain + more))


def test_a_huge_declared_size_is_refused_before_it_is_read() -> None:
    entry = tarfile.TarInfo(f"{contents().config[7:]}.json")
    entry.size = 8 << 30
    plain = gzip.decompress(archive())[:1024] + entry.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError, match=r"where|declares"):
        check(gzip.compress(plain))


def test_a_small_file_that_unpacks_to_much_is_read_no_further_than_announced() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            self.taken += len(content)
            return content

    plain = gzip.decompress(archive())
    first = plain.index(f"{contents().layers[0][7:]}.tar\0".encode())
    entry = tarfile.TarInfo(f"{contents().layers[0][7:]}.tar")
    entry.size = 60 << 20
    bomb = Counting(gzip.compress(plain[:first] + entry.tobuf(tarfile.USTAR_FORMAT) + bytes(60 << 20), 9))
    with pytest.raises(ArchiveError, match=f"declares {60 << 20} bytes"):
        check_archive(bomb, contents(), LIMIT)
    assert bomb.taken < 40_000


@pytest.mark.parametrize("config", ["", "sha256:../../x", "sha256:" + "A" * 64])
def test_what_is_announced_must_be_digests(config: str) -> None:
    with pytest.raises(ArchiveError, match="is no digest"):
        check(archive(), ArchiveContents(config, contents().layers))


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with closing(connect()) as found:
        yield found
        for name in (contents().config, FOREIGN):
            with suppress(docker.errors.ImageNotFound):
                found.images.remove(name, force=True)


@pytest.mark.docker
def test_an_engine_takes_the_archive_and_names_nothing(client: DockerClient) -> None:
    (image,) = client.images.load(archive())
    assert (image.id, image.tags) == (contents().config, [])
    assert tuple(image.attrs["RootFS"]["Layers"]) == contents().layers
    client.images.load(archive(2))  # what is there may be left out


@pytest.mark.docker
def test_an_engine_would_take_the_second_image_and_that_is_why_it_is_checked(client: DockerClient) -> None:
    client.api.import_image_from_data(layer("app", b"mine"), repository=FOREIGN.partition(":")[0], tag="latest")
    mine = client.images.get(FOREIGN).id
    attack = rebuilt(second_image)
    with pytest.raises(ArchiveError):
        check(attack)
    assert client.images.get(FOREIGN).id == mine
    client.images.load(attack)
    assert client.images.get(FOREIGN).id != mine
    client.images.remove(str(mine))
