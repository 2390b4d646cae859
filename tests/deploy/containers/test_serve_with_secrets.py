"""Real containers with secrets: what starts them asks with these, and nobody else is answered."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.containers.client import served_model
from deploy.containers.credentials import Credentials
from deploy.containers.ports import is_port_in_use
from deploy.containers.publishing import PublishedEndpoint, parse_endpoint
from deploy.containers.secrets import KEY, TOKENS
from deploy.containers.serve import ServerContainer, check_start, run_server
from deploy.images.build import BuiltImage
from tests.deploy.containers.secretfolders import TOKEN, Laid, laid, readable
from tests.names import own_name
from toolchain.errors import DeviceError, DockerError

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("unnamed")]
NAME, OLD = own_name("edge-test-closed"), own_name("edge-test:old")
GRPC = """
import sys
import numpy as np, tritonclient.grpc as of
place, ca, cert, key, token = sys.argv[1:]
client = of.InferenceServerClient(place, ssl=True, root_certificates=ca, certificate_chain=cert, private_key=key)
feed = of.InferInput("image", [1, 8, 8, 3], "UINT8")
feed.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
found = client.infer("null", [feed], headers={"authorization": f"Bearer {token}"})
assert found.as_numpy("logits").shape == (1, 4)
"""


def started(image: BuiltImage, secrets: Laid, grpc_port: int | None = None, shows: bool = True) -> ServerContainer:
    cert, key = (secrets.client.cert, secrets.client.key) if shows else (None, None)
    return run_server(image.tag, parse_endpoint(0, grpc_port, secrets.folder, cert, key), NAME)


def test_a_container_with_secrets_serves_only_authenticated_clients_on_both_protocols(
    image: BuiltImage, tmp_path: Path
) -> None:
    secrets = readable(laid(tmp_path))
    server = started(image, secrets, grpc_port=0)
    assert server.url.startswith("https://127.0.0.1:") and server.cold_start_s is not None
    shown = Credentials(secrets.folder / TOKENS, secrets.ours.root, secrets.client.cert, secrets.client.key)
    assert served_model(server.url, shown) == "null"
    with pytest.raises(DeviceError, match=r"^GET /: 403 "):
        served_model(server.url, Credentials(secrets.folder / TOKENS, secrets.ours.root))
    files = (secrets.ours.root, secrets.client.cert, secrets.client.key)
    done = subprocess.run(
        [sys.executable, "-c", GRPC, server.grpc, *map(str, files), TOKEN],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_same_secrets_keep_the_container_and_others_replace_it(image: BuiltImage, tmp_path: Path) -> None:
    secrets = readable(laid(tmp_path, TOKENS))
    first = run_server(image.tag, parse_endpoint(0, 0, secrets.folder, None, None), NAME)
    assert first.url.startswith("http://")
    with pytest.raises(DeviceError, match=r"^GET /: 401 "):
        served_model(first.url)
    assert run_server(image.tag, parse_endpoint(0, 0, secrets.folder, None, None), NAME).id == first.id
    opened = run_server(image.tag, PublishedEndpoint(0), NAME)
    assert (opened.id == first.id, opened.grpc, served_model(opened.url)) == (False, "", "null")


def test_without_a_client_certificate_readiness_alone_is_checked(
    image: BuiltImage, tmp_path: Path, messages: list[str]
) -> None:
    server = started(image, readable(laid(tmp_path)), shows=False)
    assert server.cold_start_s is None
    line = f"container: {NAME} is ready on {server.url}; it requires a client certificate: add --cert=FILE --key=FILE "
    assert f"{line}to check its answer" in messages


def test_secrets_are_mounted_read_only_and_their_content_reaches_no_engine(
    image: BuiltImage, engine: DockerClient, tmp_path: Path
) -> None:
    container = engine.containers.get(started(image, readable(laid(tmp_path))).id)
    (mount,) = [secrets for secrets in container.attrs["Mounts"] if secrets["Destination"] == "/secrets"]
    assert (mount["Type"], mount["RW"]) == ("bind", False)
    assert TOKEN not in str(container.attrs) and TOKEN not in container.logs().decode()


def test_a_key_that_the_servers_user_cannot_read_is_reported(
    image: BuiltImage, tmp_path: Path, engine: DockerClient
) -> None:
    secrets = readable(laid(tmp_path))
    (secrets.folder / KEY).chmod(0o600)
    with pytest.raises(DockerError, match=r"died \(exit 2\): .*/secrets/tls.key: cannot be read \(Permission denied\)"):
        started(image, secrets)
    assert not [
        container for container in engine.containers.list(all=True, ignore_removed=True) if container.name == NAME
    ]


def test_a_grpc_port_in_use_is_reported_with_its_flag(image: BuiltImage, tmp_path: Path) -> None:
    server = run_server(image.tag, PublishedEndpoint(0, 0), NAME)
    port = int(server.grpc.rpartition(":")[2])
    assert is_port_in_use(port)
    words = rf"^port {port} is in use by container '{NAME}'; stop that, or choose another: --grpc-port=…$"
    with pytest.raises(DockerError, match=words):
        check_start(f"{NAME}-other", PublishedEndpoint(0, port))
    check_start(NAME, PublishedEndpoint(0, port))


def test_an_image_without_secrets_support_is_refused(tmp_path: Path, engine: DockerClient) -> None:
    """It would leave the variables alone, and serve open to all."""
    old, _ = engine.images.build(fileobj=io.BytesIO(b"FROM scratch\nLABEL old=1\n"), tag=OLD)
    secrets = laid(tmp_path, TOKENS)
    try:
        for wanted in (parse_endpoint(0, None, secrets.folder, None, None), PublishedEndpoint(0, 0)):
            with pytest.raises(DockerError, match=rf"^{OLD} was built before gRPC, TLS and tokens were supported; "):
                run_server(OLD, wanted, NAME)
    finally:
        engine.images.remove(str(old.id), force=True)
