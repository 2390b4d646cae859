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


def started(image: BuiltImage, one: Laid, grpc_port: int | None = None, shows: bool = True) -> ServerContainer:
    cert, key = (one.client.cert, one.client.key) if shows else (None, None)
    return run_server(image.tag, parse_endpoint(0, grpc_port, one.folder, cert, key), NAME)


def test_a_closed_container_answers_us_over_both_protocols_and_no_stranger(image: BuiltImage, tmp_path: Path) -> None:
    one = readable(laid(tmp_path))
    found = started(image, one, grpc_port=0)
    assert found.url.startswith("https://127.0.0.1:") and found.cold_start_s is not None
    shown = Credentials(one.folder / TOKENS, one.ours.root, one.client.cert, one.client.key)
    assert served_model(found.url, shown) == "null"
    with pytest.raises(DeviceError, match=r"^GET /: 403 "):
        served_model(found.url, Credentials(one.folder / TOKENS, one.ours.root))
    files = (one.ours.root, one.client.cert, one.client.key)
    done = subprocess.run(
        [sys.executable, "-c", GRPC, found.grpc, *map(str, files), TOKEN],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_same_secrets_keep_it_and_others_replace_it(image: BuiltImage, tmp_path: Path) -> None:
    one = readable(laid(tmp_path, TOKENS))
    first = run_server(image.tag, parse_endpoint(0, 0, one.folder, None, None), NAME)
    assert first.url.startswith("http://")
    with pytest.raises(DeviceError, match=r"^GET /: 401 "):
        served_model(first.url)
    assert run_server(image.tag, parse_endpoint(0, 0, one.folder, None, None), NAME).id == first.id
    opened = run_server(image.tag, PublishedEndpoint(0), NAME)
    assert (opened.id == first.id, opened.grpc, served_model(opened.url)) == (False, "", "null")


def test_without_a_client_certificate_it_is_ready_and_not_asked(
    image: BuiltImage, tmp_path: Path, messages: list[str]
) -> None:
    found = started(image, readable(laid(tmp_path)), shows=False)
    assert found.cold_start_s is None
    said = f"container: {NAME} is ready on {found.url}; it requires a client certificate: add --cert=FILE --key=FILE "
    assert f"{said}to check its answer" in messages


def test_secrets_are_mounted_read_only_and_no_engine_is_told_what_is_in_them(
    image: BuiltImage, engine: DockerClient, tmp_path: Path
) -> None:
    container = engine.containers.get(started(image, readable(laid(tmp_path))).id)
    (mount,) = [one for one in container.attrs["Mounts"] if one["Destination"] == "/secrets"]
    assert (mount["Type"], mount["RW"]) == ("bind", False)
    assert TOKEN not in str(container.attrs) and TOKEN not in container.logs().decode()


def test_a_key_that_the_servers_user_may_not_read_is_told(
    image: BuiltImage, tmp_path: Path, engine: DockerClient
) -> None:
    one = readable(laid(tmp_path))
    (one.folder / KEY).chmod(0o600)
    with pytest.raises(DockerError, match=r"died \(exit 2\): .*/secrets/tls.key: cannot be read \(Permission denied\)"):
        started(image, one)
    assert not [one for one in engine.containers.list(all=True, ignore_removed=True) if one.name == NAME]


def test_a_port_for_grpc_that_is_taken_is_told_with_its_flag(image: BuiltImage, tmp_path: Path) -> None:
    found = run_server(image.tag, PublishedEndpoint(0, 0), NAME)
    port = int(found.grpc.rpartition(":")[2])
    assert is_port_in_use(port)
    words = rf"^port {port} is in use by container '{NAME}'; stop that, or choose another: --grpc-port=…$"
    with pytest.raises(DockerError, match=words):
        check_start(f"{NAME}-other", PublishedEndpoint(0, port))
    check_start(NAME, PublishedEndpoint(0, port))


def test_an_image_whose_server_knows_no_secrets_is_not_given_any(tmp_path: Path, engine: DockerClient) -> None:
    """It would leave the variables alone, and serve open to all."""
    old, _ = engine.images.build(fileobj=io.BytesIO(b"FROM scratch\nLABEL old=1\n"), tag=OLD)
    one = laid(tmp_path, TOKENS)
    try:
        for wanted in (parse_endpoint(0, None, one.folder, None, None), PublishedEndpoint(0, 0)):
            with pytest.raises(DockerError, match=rf"^{OLD} was built before gRPC, TLS and tokens were supported; "):
                run_server(OLD, wanted, NAME)
    finally:
        engine.images.remove(str(old.id), force=True)
