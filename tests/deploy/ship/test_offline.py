"""Offline bundles: read back as written, or refused before anything but the signed list is read."""

import gzip
import io
import tarfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from docker import DockerClient
from nacl.signing import SigningKey

from deploy.docker.archive import ArchiveError, write_archive
from deploy.docker.labels import ReleaseLabels
from deploy.docker.saved_image import SavedImage
from deploy.images.signatures import public_key, read_signature, read_signing_key, sign_image
from deploy.servers.inventory import Inventory, ServerConfig
from deploy.servers.release_image import ReleaseImage
from deploy.servers.server import ShipError
from deploy.servers.trust_volume import trust_volume_name
from deploy.ship import offline
from deploy.ship.offline import CONTENTS, open_offline_bundle, write_offline_bundle
from deploy.ship.ship import ShipRequest, ship_from_bundle
from tests.deploy.docker.images import content, saved_by_20_10
from tests.names import own_name
from tests.offline_bundles import Members, bundle_bytes, edit_list, read_members
from toolchain.errors import RecordError, ToolchainError, UsageError
from toolchain.records.storage import encode_record

CONTENT, LABELS = content(), ReleaseLabels("net", "2", "resnet20", "b" * 64, "openvino")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))

    def archive_without(present: int) -> tuple[int, Path]:
        file = tmp_path / f"{present}.tar.gz"
        with file.open("wb") as out:
            write_archive(SavedImage(io.BytesIO(saved_by_20_10())), CONTENT, present, out)
        return present, file

    first, second, _ = CONTENT.layers
    there = {"line-1": [(first, second, "x")], "line-2": [(first,)]}
    monkeypatch.setattr(offline, "archive_provider", lambda client, sent: archive_without)
    monkeypatch.setattr(offline, "last_known_layers", lambda server: there[server])
    return tmp_path


def release(key: Path | None = None) -> ReleaseImage:
    sign_image(CONTENT, LABELS, key)
    return ReleaseImage("edge-net:2", CONTENT, LABELS, "amd64", read_signature(CONTENT.config))


@pytest.fixture
def place(home: Path) -> Path:
    """A bundle for two servers, one of which had two layers."""
    write_offline_bundle(None, release(), ("line-1", "line-2"), home / "stick.tar")  # type: ignore[arg-type]  # no engine
    return home / "stick.tar"


def test_each_server_gets_the_smallest_archive_that_fits_it(place: Path, home: Path) -> None:
    with open_offline_bundle(place) as opened:
        signature = read_signature(CONTENT.config)
        assert opened.release == ReleaseImage("edge-net:2", CONTENT, LABELS, "amd64", signature)
        assert opened.signer == public_key(read_signing_key())
        got = [(count, file.read_bytes()) for count, file in map(opened.archive_without, (1, 2, 3))]
        assert got == [(count, (home / f"{count}.tar.gz").read_bytes()) for count in (1, 2, 2)]
        with pytest.raises(
            ShipError, match="leaves out 1 layers, of which the server has only 0: pack it again without"
        ):
            opened.archive_without(0)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda listed: listed["archives"][0].update(sha256="0" * 64), "changed after it was signed"),
        (lambda listed: listed["release"].update(tag="other-app:latest"), "changed after it was signed"),
        (lambda listed: listed["release"]["labels"].update(release="3"), "changed after it was signed"),
        (lambda listed: listed["release"]["labels"].update(target="tensorrt"), "changed after it was signed"),
        (lambda listed: listed.update(signature=""), "changed after it was signed"),
        (lambda listed: listed.update(key=b64encode(bytes(32)).decode()), "changed after it was signed"),
        (lambda listed: listed.pop("signature"), "changed after it was signed"),
        (lambda listed: listed.update(format=1), "of format 1, which is not signed; pack it again: toolchain pack"),
        (lambda listed: listed.update(format=3), "reads 1 to 2"),
        (lambda listed: listed["release"].update(tag="--against=x\n"), "Expected `str` matching regex"),
        (lambda listed: listed.update(more=1), "unknown field `more`"),
    ],
)
def test_a_list_that_was_changed_is_refused(place: Path, edit: Callable[[Any], object], said: str) -> None:
    place.write_bytes(bundle_bytes(edit_list(read_members(place), edit)))
    with pytest.raises(RecordError, match=said) as refused, open_offline_bundle(place):
        pass
    assert "\n" not in str(refused.value)


def test_a_list_signed_by_another_than_the_image_is_refused(place: Path) -> None:
    members = edit_list(read_members(place), lambda listed: None, SigningKey.generate())
    place.write_bytes(bundle_bytes(members))
    with pytest.raises(RecordError, match=r"the list is signed by .*, the image by "), open_offline_bundle(place):
        pass


@pytest.mark.parametrize("field", LABELS.__struct_fields__)
def test_an_old_release_under_a_new_name_is_refused_even_by_its_signer(place: Path, field: str) -> None:
    """The list is as the holder of the key would sign it; the image's signature says what the image is."""
    members = edit_list(
        read_members(place), lambda listed: listed["release"]["labels"].update({field: "3"}), read_signing_key()
    )
    place.write_bytes(bundle_bytes(members))
    said = f"signed as {field} '.*', and it claims to be '3'"
    with pytest.raises(RecordError, match=said), open_offline_bundle(place):
        pass


def test_nothing_but_the_list_is_read_before_its_signature_is_checked(place: Path) -> None:
    """What lies behind it is no tar at all, and the list is what is complained of."""
    members = edit_list(read_members(place), lambda listed: listed["release"].update(tag="x"))
    whole = bundle_bytes(members)
    behind = 512 + len(members[CONTENTS]) + -len(members[CONTENTS]) % 512
    place.write_bytes(whole[:behind] + b"\xff" * 5000)
    with pytest.raises(RecordError, match="changed after it was signed"), open_offline_bundle(place):
        pass


def test_an_archive_that_was_changed_is_refused_when_it_is_asked_for(place: Path) -> None:
    members = read_members(place)
    members["image-1.tar.gz"] = members["image-1.tar.gz"][:-1] + b"!"
    place.write_bytes(bundle_bytes(members))
    with open_offline_bundle(place) as opened:
        assert opened.archive_without(2)[0] == 2
        with pytest.raises(ShipError, match=r"image-1\.tar\.gz in it was changed or truncated"):
            opened.archive_without(1)


def swapped(members: Members) -> Members:
    return {name: members[name] for name in reversed(members)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swapped, "begins with 'image-2"),
        (lambda members: {**members, "../../etc/x": b"x"}, "holds more than its list"),
        (lambda members: {**members, "/etc/x": b"x"}, "holds more than its list"),
        (lambda members: {CONTENTS: members[CONTENTS]}, "EOF|empty|not a plain file|end of file"),
        (lambda members: {**members, "image-1.tar.gz": b"short"}, "'image-1.tar.gz' of 5 bytes"),
        (lambda members: {CONTENTS: bytes(2 << 20)}, "begins with 'stick.json' of 2097152 bytes"),
    ],
)
def test_members_are_those_of_the_list(place: Path, change: Callable[[Members], Members], said: str) -> None:
    place.write_bytes(bundle_bytes(change(read_members(place))))
    with pytest.raises(UsageError, match=f"not an offline bundle .*({said})"), open_offline_bundle(place):
        pass


@pytest.mark.parametrize(
    "entry",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": CONTENTS},
        {"type": tarfile.XHDTYPE, "size": 1 << 40},
        {"type": tarfile.GNUTYPE_LONGNAME, "size": 1 << 40},
        {"type": tarfile.GNUTYPE_SPARSE},
        {"size": 1 << 40},
    ],
)
def test_a_first_member_that_is_no_plain_file_is_refused(place: Path, entry: dict[str, Any]) -> None:
    header = tarfile.TarInfo(CONTENTS)
    for field, value in entry.items():
        setattr(header, field, value)
    place.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + place.read_bytes())
    with pytest.raises(UsageError, match="not an offline bundle"), open_offline_bundle(place):
        pass


@pytest.mark.parametrize("cut", [0, 100, 600, -2000, -512])
def test_a_bundle_that_was_cut_is_refused(place: Path, cut: int) -> None:
    place.write_bytes(place.read_bytes()[:cut])
    with pytest.raises(ToolchainError, match=r"stick\.tar"), open_offline_bundle(place):
        pass


def test_a_file_that_is_no_offline_bundle_is_refused(place: Path, tmp_path: Path) -> None:
    nested = tmp_path / "nested.tar"
    nested.write_bytes(bundle_bytes({CONTENTS: b'{"a":' * 100_000}))
    for other in (tmp_path / "nowhere.tar", tmp_path, nested):
        with pytest.raises(ToolchainError, match=other.name) as refused, open_offline_bundle(other):
            pass
        assert "\n" not in str(refused.value)


def test_an_archive_that_was_kept_and_changed_is_not_packed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives are kept in the project's folder; what is wrong with one should not be found out at the far end."""
    planted = home / "planted.tar.gz"
    planted.write_bytes(gzip.compress(bytes(10_240)))
    monkeypatch.setattr(offline, "archive_provider", lambda client, sent: lambda present: (present, planted))
    with pytest.raises(ArchiveError, match="is not a plain file"):
        write_offline_bundle(None, release(), (), home / "stick.tar")  # type: ignore[arg-type]  # no engine
    assert not (home / "stick.tar").exists()


def test_a_bundle_is_packed_only_by_who_signed_the_image(home: Path) -> None:
    key = home / "other.key"
    key.write_text(b64encode(b"7" * 32).decode())
    signed, out = release(key), home / "stick.tar"
    with pytest.raises(UsageError, match="pack it with the key that it was signed with: --key=FILE"):
        write_offline_bundle(None, signed, (), out)  # type: ignore[arg-type]  # no engine
    with pytest.raises(RecordError, match="edge-net:2 is not signed"):
        write_offline_bundle(None, msgspec.structs.replace(signed, signature=b""), (), out)  # type: ignore[arg-type]  # no engine
    assert not out.exists()
    bundle = write_offline_bundle(None, signed, (), out, key)  # type: ignore[arg-type]  # no engine
    with open_offline_bundle(out) as opened:
        assert (opened.signer, opened.release) == (bundle.key, signed)
    assert encode_record(bundle) == read_members(out)[CONTENTS]


@pytest.mark.docker
def test_the_signer_of_a_file_is_not_trusted_for_being_the_first(engine: DockerClient, home: Path) -> None:
    """By a server that trusts nobody yet: this machine's own engine."""
    key, out = home / "other.key", home / "stick.tar"
    key.write_text(b64encode(b"7" * 32).decode())
    labels = msgspec.structs.replace(LABELS, name=own_name("edge-test-first"))
    signer = sign_image(CONTENT, labels, key).key
    sent = ReleaseImage("edge-test-first:2", CONTENT, labels, "amd64", read_signature(CONTENT.config))
    write_offline_bundle(None, sent, (), out, key)  # type: ignore[arg-type]  # no engine
    request = ShipRequest(Inventory((ServerConfig("here", "local"),)))
    try:
        (result,) = ship_from_bundle(out, request, lambda wave, told: None).results
    finally:
        keeper = engine.containers.get(trust_volume_name(labels.name))  # of the audit, which tells of the refusal
        keeper.remove()
        engine.volumes.get(str(keeper.name)).remove()
    assert (result.outcome, result.live) == ("failed", "")
    assert result.reason == (
        f"here trusts no key yet, and edge-test-first:2 is signed by {signer[:16]}, not by this machine; compare that "
        "with the key that `toolchain pack` printed, and if it is the same: --trust"
    )
