"""Against a real server of the null engine."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy.containers.client import connect_client, served_model
from deploy.containers.credentials import Credentials
from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import serving
from toolchain.errors import DeviceError


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(null_bundle(tmp_path_factory.mktemp("client") / "null.bundle").folder) as server:
        yield f"http://127.0.0.1:{server.port}"


def test_the_client_finds_the_model_and_sends_requests(url: str) -> None:
    with connect_client(url, served_model(url)) as client:
        assert client.infer(np.zeros((3, 8, 8, 3), np.uint8)).tolist() == [[0.0] * 4] * 3


def test_the_servers_error_message_is_passed_on(url: str) -> None:
    with (
        connect_client(url, "null") as client,
        pytest.raises(DeviceError, match=r"answered 400: .*expected uint8 \[N, 8, 8, 3\]"),
    ):
        client.infer(np.zeros((1, 9, 9, 3), np.uint8))
    with (
        pytest.raises(DeviceError, match=r"^GET /v2/models/dog: 404 .*no model 'dog' here"),
        connect_client(url, "dog"),
    ):
        pass


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "http://127.0.0.1:port"])
def test_an_unreachable_server_is_reported_with_advice(place: str) -> None:
    with pytest.raises(DeviceError, match=rf"^{place}: no answer \(.*; is the container running\? docker ps$"):
        served_model(place)


def test_a_server_with_access_control_accepts_token_and_certificate(tmp_path: Path) -> None:
    ours, tokens = Authority(tmp_path), tmp_path / "tokens"
    server, client = ours.issue("server"), ours.issue("client")
    tokens.write_text("# the gateway's\na-token-of-ours-to-test-with\n")
    closed = ("--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", ours.root, "--token-file", tokens)
    with serving(null_bundle(tmp_path / "null.bundle").folder, *closed) as running:
        url, shown = f"https://localhost:{running.port}", Credentials(tokens, ours.root, client.cert, client.key)
        with connect_client(url, served_model(url, shown), credentials=shown) as found:
            assert found.infer(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 4)
        with pytest.raises(DeviceError, match=r"^GET /: 403 .*a client certificate is required"):
            served_model(url, Credentials(tokens, ours.root))
        with pytest.raises(DeviceError, match=r"^GET /: 401 .*a token is required"):
            served_model(url, Credentials(None, ours.root, client.cert, client.key))
        with pytest.raises(
            DeviceError, match=r"certificate is not trusted here \(.*\); name its authority: --ca=FILE$"
        ):
            served_model(url)
