"""Archives for `docker load`: only the image that was announced, to the byte; and what a real engine makes of it."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import docker.errors
import msgspec
import pytest
from docker import DockerClient

from deploy.docker.archive import ArchiveError, ImageContent, check_archive, digest_text, write_archive
from deploy.docker.engine import connect
from deploy.docker.saved_image import SavedImage
from tests.deploy.docker.images import LAYERS, configuration, content, layer, saved_by_20_10
from tests.names import own_name
from tests.offline_bundles import plain_archive

FOREIGN = own_name("edge-test-other-app") + ":latest"


def archive(left_out: int = 0) -> bytes:
    held = io.BytesIO()
    write_archive(SavedImage(io.BytesIO(saved_by_20_10())), content(), left_out, held)
    return held.getvalue()


def check(packed: bytes, wanted: ImageContent | None = None, left_out: int = 0) -> None:
    check_archive(io.BytesIO(packed), wanted or content(), left_out)


@pytest.mark.parametrize("left_out", [0, 1, 3])
def test_the_archive_of_an_image_passes_and_is_the_same_bytes_each_time(left_out: int) -> None:
    check(archive(left_out), left_out=left_out)
    assert archive(left_out) == archive(left_out)
    with pytest.raises(ArchiveError):
        check(archive(left_out), left_out=left_out - 1 if left_out else 1)


def test_an_archive_is_an_oci_layout_and_one_that_old_engines_read() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive())) as packed:
        files = {entry.name: packed.extractfile(entry).read() for entry in packed}  # type: ignore[union-attr]  # all are files
    (listed,), (described,) = json.loads(files["manifest.json"]), json.loads(files["index.json"])["manifests"]
    assert (listed["RepoTags"], "annotations" in described) == (None, False)
    assert described["digest"] == content().manifest_digest
    manifest = json.loads(files[f"blobs/sha256/{described['digest'][7:]}"])
    assert [one["digest"] for one in manifest["layers"]] == list(content().layers)
    assert [files[name] for name in (listed["Config"], *listed["Layers"])] == [configuration(), *LAYERS]


Change = Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]


OCI_INDEX, DOCKER_LIST, MANIFEST, CONFIG, FIRST, SECOND, THIRD = range(1, 8)  # places of the members


def member(name: str, text: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    for field, value in more.items():
        setattr(entry, field, value)
    return entry, text


def rebuilt(change: Change, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """The archive with its members changed."""
    with tarfile.open(fileobj=io.BytesIO(archive())) as old:
        members = [(entry, old.extractfile(entry).read()) for entry in old]  # type: ignore[union-attr]  # all are files
    change(members)
    return gzip.compress(plain_archive(members, form))


def test_the_archive_passes_when_nothing_is_changed() -> None:
    check(rebuilt(lambda members: None))


def swap(place: int, text: bytes) -> Change:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[place] = member(members[place][0].name, text)

    return change


def edited(place: int, edit: Callable[[Any], object]) -> Change:
    """Another index.json, manifest.json or manifest."""

    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        document = json.loads(members[place][1])
        edit(document)
        swap(place, json.dumps(document, separators=(",", ":")).encode())(members)

    return change


def second_image(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """The attack that succeeded: one more image, under the name of something else on that server."""
    config = configuration((LAYERS[0],))
    name = f"blobs/sha256/{digest_text(config)[7:]}"
    entry = {"Config": name, "RepoTags": [FOREIGN], "Layers": [f"blobs/sha256/{digest_text(LAYERS[0])[7:]}"]}
    edited(DOCKER_LIST, lambda images: images.append(entry))(members)
    members.append(member(name, config))


def named(index: Any) -> None:
    index["manifests"][0]["annotations"] = {"io.containerd.image.name": FOREIGN}


def other_layer(manifest: Any) -> None:
    manifest["layers"][0]["digest"] = digest_text(LAYERS[1])


ATTACKS: dict[str, Change] = {
    "one more image": second_image,
    "one more image in the index": edited(OCI_INDEX, lambda index: index["manifests"].append(index["manifests"][0])),
    "a name": edited(DOCKER_LIST, lambda images: images[0].update(RepoTags=[FOREIGN])),
    "a name in another spelling": edited(DOCKER_LIST, lambda images: images[0].update(repotags=[FOREIGN])),
    "a name in the index": edited(OCI_INDEX, named),
    "another manifest": edited(MANIFEST, other_layer),
    "one more file": lambda members: members.append(member("repositories", b"{}")),
    "one more layer": lambda members: members.append(member("blobs/sha256/" + "0" * 64, LAYERS[0])),
    "a file in front": lambda members: members.insert(0, member("index.json", b"{}")),
    "another configuration": swap(CONFIG, configuration(labels={"dev.edge-toolchain.name": "other"})),
    "another layer": swap(SECOND, layer("second", b"9" * 700)),
    "layers in another order": lambda members: members.append(members.pop(FIRST)),
    "a file twice": lambda members: members.insert(FIRST, members[CONFIG]),
    "a missing layer": lambda members: members.pop(),
    "a symbolic link": lambda members: members.insert(2, member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "an empty file for a layer": swap(FIRST, b""),
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

    with pytest.raises(ArchiveError, match=r"'oci-layout' where it is expected: '././@PaxHeader' is not a plain file"):
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
    """Of a bomb: a small file that unpacks to much."""

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            text = super().read(size)
            self.taken += len(text)
            return text

    plain, name = gzip.decompress(archive()), f"blobs/sha256/{content().layers[0][7:]}"
    entry = tarfile.TarInfo(name)
    entry.size = 60 << 20
    front = plain[: plain.index(f"{name}\0".encode())]
    bomb = Counting(gzip.compress(front + entry.tobuf(tarfile.USTAR_FORMAT) + bytes(60 << 20), 9))
    with pytest.raises(ArchiveError, match=f"declares {60 << 20} bytes for blobs/sha256/"):
        check_archive(bomb, content(), 0)
    assert bomb.taken < 40_000
    entry.size = 60 << 33
    with pytest.raises(ArchiveError, match=r"where it is expected: 'blobs/sha256/.*' is not a plain file"):
        check(gzip.compress(front + entry.tobuf(tarfile.GNU_FORMAT)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": ""}, "is no digest"),
        ({"config": "sha256:../../x"}, "is no digest"),
        ({"config": "sha256:" + "A" * 64}, "is no digest"),
        ({"layer_bytes": (1,)}, "1 sizes are announced for 3 layers"),
        ({"config_bytes": -1}, "-1 bytes are announced"),
        ({"layer_bytes": (1, 1, 8 << 30)}, "8589934592 bytes are announced"),
    ],
)
def test_what_is_announced_must_be_an_image(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        check(archive(), msgspec.structs.replace(content(), **change))
    with pytest.raises(ArchiveError, match="4 of 3 layers cannot be left out"):
        check(archive(), left_out=4)


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with closing(connect()) as found:
        yield found
        for name in (content().config, FOREIGN):
            with suppress(docker.errors.ImageNotFound):
                found.images.remove(name, force=True)


@pytest.mark.docker
def test_an_engine_takes_the_archive_and_names_nothing(client: DockerClient) -> None:
    (image,) = client.images.load(archive())
    assert (image.id, image.tags) == (content().config, [])
    assert tuple(image.attrs["RootFS"]["Layers"]) == content().layers
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
