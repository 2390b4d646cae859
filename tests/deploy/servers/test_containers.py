"""A server's containers with secrets, on this machine's own engine: behind their socket holder, and inspected."""

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from docker import DockerClient

from deploy.containers.client import connect_client, served_model
from deploy.containers.credentials import Credentials
from deploy.containers.readiness import wait_until_ready
from deploy.containers.secrets import CERT, KEY, TOKENS
from deploy.images.build import BuiltImage, build_image
from deploy.images.signatures import read_signature, sign_image
from deploy.servers.containers import HEALTH_CHECK, DeployedContainers
from deploy.servers.docker_server import DockerServer, ServerConnection
from deploy.servers.inventory import RolloutPolicy, ServerConfig
from deploy.servers.release_image import read_release_image, socket_holder_name
from deploy.servers.server import ShipError
from deploy.servers.transfer import NO_SOURCE
from tests.bundles import null_bundle
from tests.deploy.containers.secretfolders import Laid, laid, readable
from tests.deploy.servers.deployed import remove_deployed
from tests.names import own_name
from toolchain.errors import DeviceError
from toolchain.records.bundle import file_record, open_bundle
from toolchain.records.storage import encode_record

pytestmark = pytest.mark.docker
MODEL, TAG = own_name("residents"), own_name("edge-test:residents")


@pytest.fixture(scope="module")
def built(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuiltImage]:
    yield build_image(null_bundle(tmp_path_factory.mktemp("built") / "b", name=MODEL), TAG)
    engine.images.remove(TAG, force=True)


@pytest.fixture(autouse=True)
def cleared(engine: DockerClient) -> Iterator[None]:
    yield
    remove_deployed(engine, MODEL, "1")


@pytest.fixture
def secrets(tmp_path: Path) -> Laid:
    """Readable by the container's user, whoever runs the tests."""
    return readable(laid(tmp_path, CERT, KEY, TOKENS))


def server(one: Laid | None) -> ServerConfig:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ServerConfig("here", "local", port=free.getsockname()[1])
    return msgspec.structs.replace(place, secrets=str(one.folder), closed_by=("tls", "tokens")) if one else place


def test_a_shipped_server_is_secured_behind_its_socket_holder(
    built: BuiltImage, engine: DockerClient, secrets: Laid
) -> None:
    here = server(secrets)
    containers = DeployedContainers(here, engine, MODEL)
    containers.start("1", built.id)
    containers.wait_healthy("1")
    containers.switch("1")
    assert (containers.read_state().live, containers.read_state().is_serving) == ("1", True)
    url, shown = f"https://localhost:{here.port}", Credentials(secrets.folder / TOKENS, secrets.ours.root)
    wait_until_ready(url, 30, lambda: None, shown)  # it looks every while whether it was named
    with connect_client(url, served_model(url, shown), credentials=shown) as client:
        assert client.input == "image"
    with pytest.raises(DeviceError, match=r"^GET /: 401 .*a token is required"):
        served_model(url, Credentials(ca=secrets.ours.root))


def test_a_release_does_not_take_the_name_of_another_image(
    built: BuiltImage, engine: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path))
    release = read_release_image(engine, TAG)
    sign_image(release.content, release.labels)
    taken = own_name("edge-test-taken") + ":1"
    renamed = msgspec.structs.replace(release, tag=taken, signature=read_signature(release.content.config))
    site = DockerServer(ServerConnection(server(None), engine, ""), renamed, NO_SOURCE, RolloutPolicy(), trust=False)
    site.check("1")
    engine.api.import_image_from_data(bytes(1024), repository=taken.partition(":")[0], tag="1")
    try:
        with pytest.raises(ShipError, match=rf"^here: {taken} is the name of another image there, .* not of {MODEL};"):
            site.check("1")
    finally:
        engine.images.remove(taken)


def test_secrets_that_differ_from_the_inventory_are_detected(
    built: BuiltImage, engine: DockerClient, secrets: Laid
) -> None:
    closed, open_to_all = (
        DeployedContainers(server(secrets), engine, MODEL),
        DeployedContainers(server(None), engine, MODEL),
    )
    closed.start("1", built.id)
    (found,) = closed.by_release().values()
    assert closed.has_expected_secrets(found) and not open_to_all.has_expected_secrets(found)


def test_a_folder_missing_on_the_server_is_reported(built: BuiltImage, engine: DockerClient, secrets: Laid) -> None:
    here = msgspec.structs.replace(server(secrets), secrets="/none/of/it")
    with pytest.raises(ShipError, match=r"^here: start: local: .*bind source path does not exist: /none/of/it"):
        DeployedContainers(here, engine, MODEL).start("1", built.id)


def test_a_release_whose_checks_fail_there_is_quoted_at_once(
    engine: DockerClient, secrets: Laid, tmp_path: Path
) -> None:
    """Its health check is asked in TLS, and its words come through."""
    wrong = null_bundle(tmp_path / "wrong", name=MODEL)
    np.savez(
        wrong.path("sample.npz"), inputs=np.zeros((4, 8, 8, 3), np.uint8), outputs_fp32=np.ones((4, 4), np.float32)
    )
    files = tuple(file_record(wrong.path(file.path)) for file in wrong.manifest.files)
    wrong.path("manifest.json").write_bytes(encode_record(msgspec.structs.replace(wrong.manifest, files=files)))
    made = build_image(open_bundle(wrong.folder), f"{TAG}-wrong")
    containers = DeployedContainers(server(secrets), engine, MODEL)
    try:
        containers.start("1", made.id)
        with pytest.raises(ShipError, match=r"^here: 1 refuses to serve there: .*golden distance"):
            containers.wait_healthy("1")
    finally:
        containers.stop("1")
        engine.containers.get(socket_holder_name(MODEL)).remove(force=True)
        engine.images.remove(made.tag, force=True)


def test_the_health_of_an_open_server_is_read(built: BuiltImage, engine: DockerClient) -> None:
    containers = DeployedContainers(server(None), engine, MODEL)
    containers.start("1", built.id)
    containers.wait_healthy("1")
    (found,) = containers.by_release().values()
    assert containers.health(found) == (True, f'{{"name":"{MODEL}","ready":true}}')
    assert found.attrs["Config"].pop("Healthcheck")["Test"] == list(HEALTH_CHECK)  # Podman does not list it
    assert containers.health(found)[0]
