from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.docker.labels import BUNDLE, NAME, RELEASE
from deploy.images.signatures import check_signature, read_signature, sign_image
from toolchain.errors import DockerError, RecordError, UsageError

ID = "sha256:" + "a" * 64


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    return SimpleNamespace(id=ID, short_id=ID[:12], labels={BUNDLE: "b" * 64, NAME: "net", RELEASE: "1.5.0"})


def test_what_was_signed_is_known_by_its_key_and_its_key_is_made_once(image: Any, tmp_path: Path) -> None:
    made = sign_image(image)
    found = check_signature(read_signature(ID), ID, "net:1")
    assert (found, found.release) == (made, "1.5.0")
    assert sign_image(image).key == made.key
    assert (tmp_path / "keys" / "key.ed25519").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(b"1.5.0", b"1.5.1"), "changed after it was signed"),
        (lambda text: text.replace(b"b" * 64, b"c" * 64), "changed after it was signed"),
        (lambda text: text.replace(ID.encode(), b"sha256:" + b"d" * 64), "of another image"),
        (lambda text: b"", "not signed; sign it where it was built"),
        (lambda text: text[:-20], "the signature of net:1"),
        (lambda text: text.replace(b'"signature": "', b'"signature": "!'), "not base64"),
    ],
)
def test_what_was_changed_is_told(image: Any, change: Any, told: str) -> None:
    sign_image(image)
    document = read_signature(ID)
    assert change(document) != document
    with pytest.raises(RecordError, match=told):
        check_signature(change(document), ID, "net:1")


def test_only_our_images_are_signed_and_a_key_must_be_one(image: Any, tmp_path: Path) -> None:
    image.labels = {}
    with pytest.raises(DockerError, match="was not built by this toolchain"):
        sign_image(image)
    image.labels = {BUNDLE: "b", NAME: "net", RELEASE: "1"}
    (tmp_path / "short").write_text("YWJj")
    with pytest.raises(UsageError, match="3 bytes; a key to sign with has 32"):
        sign_image(image, tmp_path / "short")
