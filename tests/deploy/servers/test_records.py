"""Trusted keys, signatures and the audit on this machine's own engine: where a serving container cannot write."""

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from docker import DockerClient

from deploy.docker.tar import add_member
from deploy.images.build import BuiltImage, build_image
from deploy.images.signatures import Signature, read_signing_key, sign_document, sign_image
from deploy.servers.containers import SOCKET_FOLDER, DeployedContainers
from deploy.servers.docker_server import DockerServer, ServerConnection
from deploy.servers.inventory import RolloutPolicy
from deploy.servers.records import AUDIT, TRUSTED
from deploy.servers.release_image import container_name, read_release_image, socket_holder_name
from deploy.servers.server import AuditEntry, DamagedSignatureError, ShipError
from deploy.servers.transfer import NO_SOURCE
from deploy.servers.trust_volume import FOLDER, TrustVolume, trust_volume_name
from tests.bundles import null_bundle
from tests.deploy.servers.deployed import local_server, remove_deployed
from tests.names import own_name
from toolchain.records.storage import encode_record

pytestmark = pytest.mark.docker
MODEL, TAG = own_name("records"), own_name("edge-test:records")
# as the container's own user: write, replace, rename, remove, make
TAMPER = """
import os, sys
for what in (
    lambda: open(sys.argv[1] + "/live", "w"),
    lambda: open(sys.argv[1] + "/trusted.json", "w"),
    lambda: open(sys.argv[1] + "/audit.jsonl", "a"),
    lambda: os.rename(sys.argv[1] + "/live", sys.argv[1] + "/dead"),
    lambda: os.unlink(sys.argv[1] + "/door.sock"),
    lambda: os.mkdir(sys.argv[1] + "/new"),
    lambda: os.chmod(sys.argv[1], 0o777),
):
    try:
        what()
        print("done")
    except OSError as error:
        print(error.errno)
"""
READ_ONLY = "30"
LIST = f"import os; print(*sorted(os.listdir('{SOCKET_FOLDER}')))"


@pytest.fixture(scope="module")
def built(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltImage]:
    folder = tmp_path_factory.mktemp("built")
    for number in ("2", "3"):
        build_image(null_bundle(folder / number, name=MODEL, release=number), f"{TAG}-{number}")
    yield build_image(null_bundle(folder / "1", name=MODEL), TAG)
    for tag in (TAG, f"{TAG}-2", f"{TAG}-3"):
        if engine.images.list(tag):
            engine.images.remove(tag, force=True)


@pytest.fixture
def containers(engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeployedContainers]:
    """Nothing is there yet, and this toolchain's home is new."""
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    yield DeployedContainers(local_server(), engine, MODEL)
    remove_deployed(engine, MODEL, "1")


def entry(what: str = "ship: it is out", release: str = "1", outcome: str = "live") -> AuditEntry:
    return AuditEntry("2026-11-01T00:00:00+00:00", "ada", what, release, outcome)


def put(engine: DockerClient, holder: str, folder: str, files: dict[str, bytes]) -> None:
    """As somebody else wrote them there."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, content in files.items():
            add_member(archive, name, content, 10001)
    engine.containers.get(holder).put_archive(folder, held.getvalue())


def shared_files(engine: DockerClient) -> list[str]:
    """Beside the socket, which may not be there yet on a busy machine."""
    listed = engine.containers.get(socket_holder_name(MODEL)).exec_run(["python3", "-S", "-c", LIST]).output.decode()
    return [name for name in str(listed).split() if name != "door.sock"]


def test_a_serving_container_can_change_neither_what_is_trusted_nor_which_release_is_live(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers
) -> None:
    containers.start("1", built.id)
    containers.switch("1")
    containers.records.trust_key("key")
    containers.records.append_audit(entry())
    serving = engine.containers.get(container_name(MODEL, "1"))
    tampered = serving.exec_run(["python3", "-S", "-c", TAMPER, SOCKET_FOLDER]).output.decode().split()
    assert tampered == [READ_ONLY] * 7
    mounted = {mount["Destination"]: (mount.get("Name"), mount["RW"]) for mount in serving.attrs["Mounts"]}
    assert mounted[SOCKET_FOLDER] == (socket_holder_name(MODEL), False)
    assert trust_volume_name(MODEL) not in str(serving.attrs["Mounts"])
    assert containers.read_state().live == "1"
    assert (containers.records.trusted_keys(), len(containers.records.read_audit())) == (("key",), 1)
    assert shared_files(engine) == ["live"]


def test_records_where_servers_could_write_are_moved_once_and_it_is_said(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers, messages: list[str]
) -> None:
    containers.start("1", built.id)
    old = entry()
    line = b'{"at":"then","who":"ada","what":"ship: first","release":"1","outcome":"live","reason":""}\n'
    signature = b'{"signed_at": "2026-11-01T10:00:00+01:00"}'
    files = {TRUSTED: b'["key"]', AUDIT: line, "signed-1.json": signature}
    put(engine, socket_holder_name(MODEL), SOCKET_FOLDER, files)
    records = containers.records
    assert (records.trusted_keys(), records.read_signature("1")) == (("key",), signature)
    assert [one.what for one in records.read_audit()] == ["ship: first"]
    assert shared_files(engine) == sorted(files)  # reading moves nothing
    messages.clear()
    records.append_audit(old)
    assert [words for words in messages if "moved" in words] == [
        f"here: moved trusted keys, signatures and audit to the volume {trust_volume_name(MODEL)}; where they were, "
        "serving containers could have changed them: look at them once: toolchain audit"
    ]
    assert shared_files(engine) == []
    put(engine, socket_holder_name(MODEL), SOCKET_FOLDER, {TRUSTED: b'["forged"]', AUDIT: line * 5})
    assert (records.trusted_keys(), records.read_signature("1")) == (("key",), signature)
    assert [one.number for one in records.read_audit()] == [0, 2]
    check = records.check_audit(())
    assert (check.lines, check.unsigned, check.problems) == (2, 1, ())


def test_what_cannot_be_read_is_told_with_its_cure(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers, messages: list[str]
) -> None:
    containers.start("1", built.id)
    holder, records = socket_holder_name(MODEL), containers.records
    put(engine, holder, SOCKET_FOLDER, {TRUSTED: b'{"key": 1}', AUDIT: b'{"at":"then","wh', "live": b"\xff\xfe"})
    with pytest.raises(ShipError, match=r"^here: trusted.json there cannot be read \(.*\); expected .*: --trust$"):
        records.trusted_keys()
    with pytest.raises(
        ShipError, match=r"^here: live there is no container's name .* docker exec .*-door python3 -c .*$"
    ):
        containers.read_state()
    assert records.read_audit()[0].outcome == "unreadable"
    assert messages[-1].startswith("here: its audit: line 1 cannot be read (")
    with pytest.raises(ShipError, match="--trust"):
        records.trust_key("key")
    records.trust_key("key", replace_unreadable=True)
    assert records.trusted_keys() == ("key",)


def test_the_volume_outlives_its_container_and_a_write_that_was_cut(
    engine: DockerClient, containers: DeployedContainers
) -> None:
    records, name = containers.records, trust_volume_name(MODEL)
    for key in ("one", "two", "three"):
        records.trust_key(key)
    engine.containers.get(name).remove()
    assert records.trusted_keys() == ("one", "two", "three")
    put(engine, name, FOLDER, {f"{TRUSTED}.0": b"half of"})  # the third write
    assert records.trusted_keys() == ("one", "two")
    records.trust_key("four")
    assert records.trusted_keys() == ("one", "two", "four")
    put(engine, name, FOLDER, {f"{TRUSTED}.0": b"", f"{TRUSTED}.1": b"x y\nz"})
    with pytest.raises(
        ShipError, match=rf"^here: trusted.json on the volume {name} there is damaged in both copies; to"
    ):
        records.trusted_keys()


def test_the_newest_release_is_the_later_signed_of_what_serves_and_what_was_shipped_last(
    containers: DeployedContainers,
) -> None:
    records = containers.records
    assert records.newest_shipped("1") == ("1", "")  # by a version that kept no signature
    for release, day in {"1": 1, "2": 2, "3": 3}.items():
        records.keep_signature(release, b'{"signed_at": "2026-11-0%dT10:00:00+01:00"}' % day)
    assert records.newest_shipped("1") == ("1", "2026-11-01T09:00:00+00:00")
    for what, release, outcome in (
        ("ship: it is out", "2", "live"),
        ("ship: it is slow", "3", "refused"),
        ("rollback: ship: it blinks", "1", "live"),
    ):
        records.append_audit(entry(what, release, outcome))
    assert records.newest_shipped("1") == ("2", "2026-11-02T09:00:00+00:00")
    records.append_audit(entry("ship: all the same", "1"))
    assert records.newest_shipped("1") == ("1", "2026-11-01T09:00:00+00:00")


def test_a_signer_is_trusted_only_once_it_was_checked(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers
) -> None:
    """A server that serves nothing starts its release again before the signature is checked."""
    release = read_release_image(engine, TAG)
    key = sign_image(release.content, release.labels).key
    release = read_release_image(engine, TAG)

    def shipped(trust: bool, first_trust: bool) -> DockerServer:
        connection = ServerConnection(containers.server, engine, "")
        return DockerServer(connection, release, NO_SOURCE, RolloutPolicy(), trust, first_trust)

    from_a_file = shipped(trust=False, first_trust=False)
    from_a_file.start("1")
    assert containers.records.trusted_keys() == ()
    with pytest.raises(ShipError, match=rf"^here trusts no key yet, and .* is signed by {re.escape(key[:16])}, not by"):
        from_a_file.check("1")
    from_a_file.start("1")
    assert containers.records.trusted_keys() == ()
    for accepted in (shipped(trust=True, first_trust=False), shipped(trust=False, first_trust=True)):
        accepted.check("1")
    accepted.start("1")
    assert containers.records.trusted_keys() == (key,)
    from_a_file.check("1")


def test_an_earlier_signed_image_of_the_same_release_is_older(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers
) -> None:
    image = read_release_image(engine, TAG)
    later = sign_image(image.content, image.labels)
    key, connection = read_signing_key(), ServerConnection(containers.server, engine, "")
    unsigned = msgspec.structs.replace(later, signed_at="2020-01-01T00:00:00+00:00", signature="")
    earlier = msgspec.structs.replace(unsigned, signature=sign_document(encode_record(unsigned), key))

    def newer_than(signature: Signature) -> str:
        shipped = msgspec.structs.replace(image, signature=encode_record(signature))
        server = DockerServer(connection, shipped, NO_SOURCE, RolloutPolicy(), trust=False)
        server.check("1")
        return server.newer_release("1")

    containers.start("1", built.id)
    containers.switch("1")
    assert newer_than(earlier) == ""
    containers.records.keep_signature("1", encode_record(later))
    assert (newer_than(later), newer_than(earlier)) == ("", "1")
    containers.records.keep_signature("1", b'{"signed_at": "yester')
    with pytest.raises(DamagedSignatureError, match=r"^here: the signature kept of 1: .*; whether .*: if .* --allow-d"):
        newer_than(later)


def test_only_what_was_shipped_is_pruned(
    built: BuiltImage, engine: DockerClient, containers: DeployedContainers
) -> None:
    """This machine's engine is the server `local`: what was built on it and never shipped stays."""
    built_here = read_release_image(engine, f"{TAG}-3")
    sign_image(built_here.content, built_here.labels)
    shipped = read_release_image(engine, f"{TAG}-3")
    connection = ServerConnection(containers.server, engine, "")
    server = DockerServer(connection, shipped, NO_SOURCE, RolloutPolicy(), trust=False)
    assert server.send("3") == 0
    labels = read_release_image(engine, f"{TAG}-2").labels
    signed = sign_image(msgspec.structs.replace(shipped.content, config=f"sha256:{'1' * 64}"), labels)
    containers.records.keep_signature("2", encode_record(signed))  # another image was shipped under that name
    server.prune(frozenset({"9"}))
    assert [tag for tag in (TAG, f"{TAG}-2", f"{TAG}-3") if engine.images.list(tag)] == [TAG, f"{TAG}-2"]


def test_a_file_keeps_its_newest_whole_copy(engine: DockerClient, containers: DeployedContainers) -> None:
    volume = TrustVolume(engine, "here", MODEL, containers._files, (), "none")
    assert volume.read("a") == b""
    for number in range(5):
        volume.write("a", b"%d" % number)
        assert volume.read("a") == b"%d" % number
