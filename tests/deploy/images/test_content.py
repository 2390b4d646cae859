"""What an engine calls an image, and which image it is."""

from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.docker.archive import write_archive
from deploy.docker.engine import connect
from deploy.docker.saved_image import SavedImage
from deploy.images.content import (
    find_content,
    has_content,
    image_layers,
    is_id_of,
    read_content,
    recall_content,
    remember_content,
)
from tests.deploy.docker.images import content, saved_as_oci

PULLED = f"sha256:{'9' * 64}"  # a manifest that a registry gave


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_both_stores_ids_are_of_one_image_and_a_pulled_one_once_it_is_known() -> None:
    image = content()
    assert image.config != image.manifest_digest
    assert [is_id_of(name, image) for name in (image.config, image.manifest_digest, PULLED)] == [True, True, False]
    remember_content(PULLED, image)
    assert is_id_of(PULLED, image)
    assert recall_content(PULLED) == image


def test_what_is_kept_of_an_id_and_cannot_be_read_is_read_from_the_engine_again(home: Path) -> None:
    remember_content(PULLED, content())
    (kept,) = (home / "images").iterdir()
    kept.write_text('{"config": 1}')
    assert recall_content(PULLED) is None


def test_what_a_cloned_folder_says_of_an_id_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / ".toolchain"))
    remember_content(PULLED, content())
    monkeypatch.delenv("TOOLCHAIN_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert recall_content(PULLED) is None


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with closing(connect()) as found:
        yield found


@pytest.mark.docker
def test_a_loaded_image_is_found_whatever_its_engine_calls_it(client: DockerClient) -> None:
    expected, archive = content(), BytesIO()
    assert find_content(client, expected) is None
    write_archive(SavedImage(BytesIO(saved_as_oci())), expected, 0, archive)
    client.images.load(archive.getvalue())
    found = find_content(client, expected)
    assert found is not None
    try:
        assert image_layers(found) == expected.layers
        assert has_content(found, expected)
        assert read_content(found) == expected
        assert recall_content(str(found.id)) == expected
    finally:
        client.images.remove(str(found.id), force=True)
