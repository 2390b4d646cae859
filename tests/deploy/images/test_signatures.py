import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from deploy.docker.labels import ReleaseLabels, read_release_labels
from deploy.images.signatures import (
    check_signature,
    own_public_key,
    read_signature,
    sign_document,
    sign_image,
    signed_content,
)
from tests.deploy.docker.images import content
from toolchain.errors import DockerError, RecordError, UsageError

CONTENT = content()
LABELS = ReleaseLabels("net", "1.5.0", "resnet20", "b" * 64, "openvino")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    return tmp_path


def test_what_was_signed_is_known_by_its_key_and_its_key_is_made_once(home: Path) -> None:
    made = sign_image(CONTENT, LABELS)
    document = read_signature(CONTENT.config)
    assert check_signature(document, CONTENT, LABELS, "net:1") == made
    assert (made.labels, made.content, made.format) == (LABELS, CONTENT, 2)
    assert signed_content(document) == CONTENT
    assert sign_image(CONTENT, LABELS).key == made.key
    assert (home / "keys" / "key.ed25519").stat().st_mode & 0o777 == 0o600


def test_a_key_that_came_with_a_cloned_folder_signs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    project, state = tmp_path / "cloned", tmp_path / "state"
    monkeypatch.setenv("TOOLCHAIN_HOME", str(project / ".toolchain"))
    strangers = sign_image(CONTENT, LABELS).key
    monkeypatch.delenv("TOOLCHAIN_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.chdir(project)
    assert own_public_key() == ""
    own = sign_image(CONTENT, LABELS).key
    assert own != strangers
    assert own == own_public_key() == sign_image(CONTENT, LABELS).key
    place, theirs = state / "edge-toolchain" / "keys", project / ".toolchain" / "keys" / "key.ed25519"
    assert place.stat().st_mode & 0o777 == 0o700
    (message,) = messages
    assert message.startswith(f"{theirs} is not used any more")
    assert message.endswith(f"if that one is yours: mkdir -p {place} && mv {theirs} {place}")


def test_a_signature_that_came_with_a_cloned_folder_counts_only_where_its_key_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that others can build to the byte is signed by anybody: its signer would be the first that a server
    trusts."""
    project, state = tmp_path / "cloned", tmp_path / "state"
    monkeypatch.setenv("TOOLCHAIN_HOME", str(project / ".toolchain"))
    sign_image(CONTENT, LABELS)
    monkeypatch.delenv("TOOLCHAIN_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.chdir(project)
    assert read_signature(CONTENT.config) == b""
    sign_image(CONTENT, LABELS)
    own = read_signature(CONTENT.config)
    assert own
    kept = state / "edge-toolchain" / "signatures"
    for place in kept.iterdir():  # where an earlier version kept it
        place.rename(project / ".toolchain" / "signatures" / place.name)
    assert read_signature(CONTENT.config) == own
    theirs = next((project / ".toolchain" / "signatures").iterdir())
    theirs.write_bytes(b"no record")
    assert read_signature(CONTENT.config) == b""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(b'"signed_at": "2', b'"signed_at": "3'), "changed after it was signed"),
        (lambda text: text.replace(CONTENT.config.encode(), b"sha256:" + b"d" * 64), "changed after it was signed"),
        (lambda text: text.replace(b"10240", b"10241"), "changed after it was signed"),
        (lambda text: b"", "not signed; sign it where it was built"),
        (lambda text: text[:-20], "the signature of net:1"),
        (lambda text: text.replace(b'"signature": "', b'"signature": "!'), "not base64"),
        (lambda text: text.replace(b'"format": 2', b'"format": 1'), "the signature of net:1: Object"),
        (lambda text: text.replace(b'"format": 2', b'"format": 3'), "reads 1 to 2; update the toolchain"),
        (lambda text: text.replace(b'"key"', b'"more": 1, "key"'), "unknown field `more`"),
    ],
)
def test_a_signature_that_was_changed_is_refused(change: Any, told: str) -> None:
    sign_image(CONTENT, LABELS)
    document = read_signature(CONTENT.config)
    assert change(document) != document
    with pytest.raises(RecordError, match=told):
        check_signature(change(document), CONTENT, LABELS, "net:1")


@pytest.mark.parametrize("field", LABELS.__struct_fields__)
def test_a_release_is_what_its_signature_says_and_nothing_else(field: str) -> None:
    """The downgrade that succeeded: release 1, signed, under the name of release 3. Changed in the signature as well,
    it is no longer what was signed."""
    sign_image(CONTENT, LABELS)
    document = read_signature(CONTENT.config)
    claimed = msgspec.structs.replace(LABELS, **{field: "3"})
    with pytest.raises(RecordError, match=f"signed as {field} '{getattr(LABELS, field)}', and it claims to be '3'"):
        check_signature(document, CONTENT, claimed, "net:3")
    fields = json.loads(document)
    fields["labels"][field] = "3"
    with pytest.raises(RecordError, match="changed after it was signed"):
        check_signature(json.dumps(fields).encode(), CONTENT, claimed, "net:3")


def test_the_content_is_signed_whole() -> None:
    sign_image(CONTENT, LABELS)
    document = read_signature(CONTENT.config)
    for change in ({"layers": CONTENT.layers[::-1]}, {"layer_bytes": (1, 2, 3)}, {"config_bytes": 7}):
        with pytest.raises(RecordError, match="of another image"):
            check_signature(document, msgspec.structs.replace(CONTENT, **change), LABELS, "net:1")


def format_1(**more: str) -> bytes:
    """As versions before wrote it."""
    key = SigningKey(b"7" * 32)
    fields: dict[str, Any] = {"image": CONTENT.config, "name": "net", "release": "1.5.0", "bundle": "b" * 64}
    fields |= {"signed_at": "2026-11-01T10:00:00+00:00", "key": b64encode(bytes(key.verify_key)).decode(), "format": 1}
    fields |= more
    fields["signature"] = sign_document(json.dumps(fields).encode(), key)
    return json.dumps(fields).encode()


def test_a_signature_of_format_1_is_still_read_and_covers_the_image_by_its_configuration() -> None:
    found = check_signature(format_1(), CONTENT, LABELS, "net:1")
    assert (found.format, found.labels, found.signed_at[:10]) == (1, LABELS, "2026-11-01")
    assert signed_content(format_1()) is None
    for change, said in (
        ({"image": "sha256:" + "d" * 64}, "of another image, .*; sign it where it was built: toolchain image sign"),
        ({"release": "1"}, "signed as release '1', and it claims to be '1.5.0'"),
        ({"bundle": "c" * 64}, "signed as bundle"),
    ):
        with pytest.raises(RecordError, match=said):
            check_signature(format_1(**change), CONTENT, LABELS, "net:1")


def test_only_our_images_are_signed_and_a_key_must_be_one(home: Path) -> None:
    with pytest.raises(DockerError, match="net:1 was not built by this toolchain"):
        read_release_labels({"dev.edge-toolchain.name": "net"}, "net:1")
    (home / "short").write_text("YWJj")
    with pytest.raises(UsageError, match="3 bytes; a key to sign with has 32"):
        sign_image(CONTENT, LABELS, home / "short")
