"""The public client against a real server of the null engine, over HTTP and gRPC, and against one that is busy."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toolchain as edge
from tests.bundles import LABELS, null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import Running, serving
from tests.house.tree import ROOT
from tests.httpserver import Silent, served
from toolchain.api.prediction import Prediction
from toolchain.errors import DeviceError, RequestError, UsageError

PIXELS = np.zeros((8, 8, 3), np.uint8)
TOKEN = "a-token-of-ours-to-test-with"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = null_bundle(tmp_path_factory.mktemp("client") / "null.bundle").folder
    with serving(folder, "--grpc-port", 0, "--max-batch", 3) as running:
        yield running


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(np.full((20, 30, 3), 7, np.uint8)).save(path)
    return path


def check_predictions(url: str, picture: Path) -> None:
    """What holds over HTTP as over gRPC."""
    with edge.Client(url) as client:
        assert (client.model, client.release, client.is_ready()) == ("null", "1", True)
        found = client.predict(picture)
        assert isinstance(found, Prediction)
        assert (found.label, found.index, found.probability) == ("cat", 0, 0.25)
        assert found.probabilities == dict.fromkeys(LABELS, 0.25)
        assert found.scores.tolist() == [0.0] * 4
        assert list(client.predict(picture, top_k=2).probabilities) == ["cat", "dog"]
        several = client.predict(
            [picture, picture.read_bytes(), Image.open(picture), PIXELS, np.zeros((9, 9), np.uint8)]
        )
        assert [one.label for one in several] == ["cat"] * 5
        assert len(client.predict(np.stack([PIXELS] * 8))) == 8  # three requests
        assert client.predict(np.zeros((3, 8, 8), np.float32)).index == 0
        assert client.predict([]) == []
        for bad, words in (
            (b"no picture", "not a complete JPEG"),
            (np.zeros((5, 8, 8)), r"expected uint8 \[N, 8, 8, 3\]"),
        ):
            with pytest.raises(RequestError, match=words):
                client.predict(bad)
    with pytest.raises(DeviceError, match="no model 'dog'"):
        edge.Client(url, model="dog")


def test_over_http(server: Running, picture: Path) -> None:
    check_predictions(f"http://127.0.0.1:{server.port}", picture)


def test_over_grpc(server: Running, picture: Path) -> None:
    """In a process of its own: grpcio has threads, which tests that fork do not like."""
    url = f"grpc://127.0.0.1:{server.wait_for('listening for gRPC')['grpc_port']}"
    run_grpc(f"check_predictions({url!r}, Path({str(picture)!r}))")


def run_grpc(code: str) -> None:
    program = f"from tests.api.test_client import *\n{code}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_access(url: str, ca: Path, cert: Path, key: Path) -> None:
    with edge.Client(url, token=TOKEN, ca=ca, cert=cert, key=key) as client:
        assert client.predict(PIXELS).label == "cat"
    with pytest.raises(UsageError, match=r"a token is required.*; give one: Client\(url, token=TOKEN\)"):
        edge.Client(url, ca=ca, cert=cert, key=key)
    with pytest.raises(DeviceError, match=r"not trusted here|UNAVAILABLE"):
        edge.Client(url, token=TOKEN)
    with pytest.raises(UsageError, match=r"--ca .*nothing\.pem: no certificates"):
        edge.Client(url, ca="nothing.pem")


def test_a_server_with_tls_token_and_certificates_of_clients(tmp_path: Path) -> None:
    ours, tokens = Authority(tmp_path), tmp_path / "tokens"
    own, client = ours.issue("server"), ours.issue("client")
    tokens.write_text(f"{TOKEN}\n")
    closed = ("--tls-cert", own.cert, "--tls-key", own.key, "--tls-client-ca", ours.root, "--token-file", tokens)
    with serving(null_bundle(tmp_path / "null.bundle").folder, *closed, "--grpc-port", 0) as running:
        check_access(f"https://localhost:{running.port}", ours.root, client.cert, client.key)
        with edge.Client(
            f"https://localhost:{running.port}", token_file=tokens, ca=ours.root, cert=client.cert, key=client.key
        ) as found:
            assert found.model == "null"
        places = ", ".join(f"Path({str(place)!r})" for place in (ours.root, client.cert, client.key))
        port = running.wait_for("listening for gRPC")["grpc_port"]
        run_grpc(f"check_access('grpcs://localhost:{port}', {places})")


class Busy(Silent):
    """Says twice that it is busy, then answers. waits: what it says, one a request."""

    waits: list[str | None]
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        wait = self.waits.pop(0) if self.waits else None
        if wait is None:
            self._answer(200, json.dumps([{"name": "a"}, {"name": "b"}]))
        else:
            self._answer(503, json.dumps({"error": "full"}), wait)

    def _answer(self, status: int, text: str, wait: str = "") -> None:
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def busy(*waits: str) -> type[Busy]:
    return type("BusyNow", (Busy,), {"waits": list(waits), "asked": 0})


def test_a_busy_server_is_asked_again_when_it_says(messages: list[str]) -> None:
    handler = busy("0", "Sun, 06 Nov 1994 08:49:37 GMT")
    with served(handler) as url, pytest.raises(UsageError, match=r"serves 2 models \(a, b\); name one"):
        edge.Client(url)
    assert handler.asked == 3
    assert messages[0].endswith("answered 503: full; again in 0 s")


def test_a_server_that_stays_busy_is_left_after_so_many_times() -> None:
    handler = busy(*["0"] * 9)
    with served(handler) as url, pytest.raises(DeviceError, match=r"answered 503: full; asked 3 times: try later"):
        edge.Client(url, retries=2)
    assert handler.asked == 3


def test_a_server_that_is_busy_for_longer_than_the_client_waits_is_not_waited_for() -> None:
    with served(busy("3600")) as url, pytest.raises(DeviceError, match=r"answered 503: full; asked 1 times"):
        edge.Client(url)


def test_a_server_that_does_not_say_when_is_not_asked_again() -> None:
    handler = busy("", "")
    with served(handler) as url, pytest.raises(DeviceError, match=r"answered 503: full$"):
        edge.Client(url)
    assert handler.asked == 1


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://"])
def test_an_address_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=rf"^Client: '{url}': expected one of http://HOST:PORT, https://"):
        edge.Client(url)


def test_an_unreachable_server_is_reported_with_advice() -> None:
    with pytest.raises(DeviceError, match=r"^http://127\.0\.0\.1:9: no answer \(.*; is the container running\?"):
        edge.Client("http://127.0.0.1:9")


def test_a_connection_that_the_server_closed_is_opened_again(server: Running) -> None:
    with edge.Client(f"http://127.0.0.1:{server.port}") as client:
        client._transport.close()
        assert client.predict(PIXELS).label == "cat"
