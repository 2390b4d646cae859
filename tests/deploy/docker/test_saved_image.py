"""One image in every layout that engines save: the same identity, the same canonical archive."""

import io
import json
import tarfile

import pytest

from deploy.docker.archive import ArchiveError, check_archive, digest_text, write_archive
from deploy.docker.saved_image import SavedImage
from tests.deploy.docker.images import LAYERS, configuration, content, layer, saved_as_oci, saved_by_20_10, tar_of

LAYOUTS = {
    "20.10": saved_by_20_10(),
    "25": saved_as_oci(),
    "containerd store": saved_as_oci(zipped=True),
    "OCI alone": saved_as_oci(docker_manifest=False),
    "OCI with an attestation": saved_as_oci(docker_manifest=False, nested=True),
}


def canonical(saved: bytes, left_out: int = 0) -> bytes:
    held = io.BytesIO()
    write_archive(SavedImage(io.BytesIO(saved)), content(), left_out, held)
    return held.getvalue()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_has_the_same_identity_and_archive_whatever_engine_saved_it(layout: str) -> None:
    image = SavedImage(io.BytesIO(LAYOUTS[layout]))
    assert image.content == content()
    assert (image.tags, image.present) == (("edge-net:2",), frozenset(content().layers))
    for digest, expected in zip(image.layers, LAYERS, strict=True):
        with image.open_layer(digest) as (stream, size):
            assert (stream.read(), size) == (expected, len(expected))
    assert canonical(LAYOUTS[layout], 1) == canonical(LAYOUTS["20.10"], 1)


def test_a_store_that_lacks_layers_can_still_give_the_others() -> None:
    image = SavedImage(io.BytesIO(saved_as_oci(zipped=True, without=2)))
    assert image.present == {content().layers[2]}
    check_archive(io.BytesIO(canonical(saved_as_oci(without=2), 2)), content(), 2)
    with pytest.raises(ArchiveError, match="no content of the layer sha256:"):
        canonical(saved_as_oci(without=2), 1)


def test_a_layer_that_comes_twice_is_read_through_its_link_and_sent_once() -> None:
    layers = (*LAYERS, LAYERS[0])
    image = SavedImage(io.BytesIO(saved_by_20_10(layers)))
    assert image.content == content(layers)
    with image.open_layer(image.layers[3]) as (stream, _):
        assert stream.read() == LAYERS[0]
    held = io.BytesIO()
    write_archive(image, content(layers), 1, held)
    held.seek(0)
    check_archive(held, content(layers), 1)
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        blobs = [f"blobs/sha256/{digest[7:]}" for digest in image.layers]
        assert archive.getnames()[-3:] == [blobs[1], blobs[2], blobs[0]]


ENTRY = {"Config": "c.json", "RepoTags": None, "Layers": []}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "neither manifest.json nor index.json"),
        ({"manifest.json": json.dumps([ENTRY, ENTRY]).encode()}, "holds 2 images; expected one"),
        ({"manifest.json": json.dumps([ENTRY]).encode()}, "has no c.json of at most"),
        ({"manifest.json": b"[{}]"}, "manifest.json: Object missing required field `Config`"),
        ({"manifest.json": json.dumps([ENTRY]).encode(), "c.json": b"{}"}, "the image's configuration: Object missing"),
        ({"index.json": b'{"manifests": []}'}, "holds 0 images; expected one"),
    ],
)
def test_what_is_not_the_archive_of_one_image_is_refused_in_a_line(members: dict[str, bytes], said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        SavedImage(io.BytesIO(tar_of(members)))


def test_a_file_that_is_no_tar_is_refused_in_a_line() -> None:
    with pytest.raises(ArchiveError, match="cannot be read"):
        SavedImage(io.BytesIO(b"no tar" * 200))


def test_a_layer_that_is_not_what_the_configuration_lists_is_not_packed() -> None:
    other = saved_by_20_10().replace(LAYERS[1], layer("second", b"4" * 700))
    with pytest.raises(ArchiveError, match="the engine's layer is not what was announced"):
        canonical(other)


def test_another_configuration_makes_another_image_of_the_same_layers() -> None:
    image = SavedImage(io.BytesIO(saved_by_20_10()))
    image.replace_configuration(configuration(labels={}))
    assert (image.content.config, image.content.layers) == (digest_text(configuration(labels={})), content().layers)
    assert image.content.manifest_digest != content().manifest_digest
    with pytest.raises(ArchiveError, match="lists other layers"):
        image.replace_configuration(configuration(LAYERS[:2]))
