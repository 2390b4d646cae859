"""Archives of a real engine's images: which layers they leave out, and that the same image gives the same bytes."""

import io
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.docker.archive import ArchiveError
from deploy.docker.engine import connect
from deploy.images.content import saved_image
from deploy.servers.layer_archive import ArchiveChecks, count_present_layers, pack_image
from tests.names import own_name
from toolchain.records.storage import digest_of


@pytest.mark.parametrize(
    ("there", "present"),
    [
        ([], 0),
        ([("a", "b", "c")], 3),
        ([("a", "b", "x"), ("a",)], 2),
        ([("b", "c")], 0),
        ([("a", "b", "c", "d")], 3),
        ([()], 0),
    ],
)
def test_layers_are_there_from_the_lowest_up(there: list[tuple[str, ...]], present: int) -> None:
    assert count_present_layers(("a", "b", "c"), there) == present


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with closing(connect()) as found:
        yield found


def layer(name: str, content: bytes) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


@pytest.fixture
def tag(client: DockerClient) -> Iterator[str]:
    """An image of two layers of our own."""
    first, repository = layer("first", b"1" * 5000), own_name("edge-test-archive")
    name, below = f"{repository}:1", f"{repository}:below"
    client.api.import_image_from_data(first, repository=repository, tag="below")
    container = client.containers.create(below, "none")
    container.put_archive("/", layer("second", b"2" * 7000))
    container.commit(repository, "1")
    container.remove()
    yield name
    for one in (name, below):
        client.images.remove(one, force=True)


@pytest.mark.docker
def test_an_archive_without_its_lowest_layer_holds_the_rest_and_is_the_same_twice(
    client: DockerClient, tag: str, tmp_path: Path
) -> None:
    image = client.images.get(tag)
    with saved_image(image) as saved:
        content = saved.content
    part = pack_image(image, content, 1, tmp_path / "part.tar.gz")
    with tarfile.open(part) as archive:
        names = archive.getnames()
    lower, upper = (f"blobs/{layer.replace(':', '/')}" for layer in content.layers)
    assert (lower in names, upper in names) == (False, True)
    assert digest_of(part) == digest_of(pack_image(image, content, 1, tmp_path / "again.tar.gz"))
    whole = pack_image(image, content, 0, tmp_path / "whole.tar.gz")
    checks = ArchiveChecks()
    checks.check(part, content, 1)
    checks.check(whole, content, 0)
    whole.write_bytes(part.read_bytes())
    with pytest.raises(ArchiveError, match="expected"):
        checks.check(whole, content, 0)
