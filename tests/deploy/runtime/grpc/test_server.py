"""The gRPC half of the Open Inference Protocol, as its own client speaks it, and TLS and tokens on it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.runtime.grpc.frames import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    encode_field,
    frame,
)
from tests.bundles import null_bundle
from tests.deploy.runtime.grpc.http2 import SERVICE_PATH, Http2Client, grpc_port, infer_request
from tests.deploy.runtime.protocol.test_protocol_client import picture
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import PATIENCE_S, ROOT, Running, command, serving

ASK = """
import sys, grpc
import numpy as np
import tritonclient.grpc as of
address, root, cert, key, token = sys.argv[1:]
client = of.InferenceServerClient(address, ssl=bool(root), root_certificates=root or None, private_key=key or None,
                                  certificate_chain=cert or None)
feed = of.InferInput("image", [1, 8, 8, 3], "UINT8")
feed.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
assert client.is_server_live()
try:
    client.infer("null", [feed], headers={"authorization": f"Bearer {token}"} if token else None)
    print("answered")
except of.InferenceServerException as error:
    print(error.status(), error.message())
"""

RAW = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    service = "/inference.GRPCInferenceService/"
    try:
        channel.unary_unary(f"{service}ModelInfer")(b"not a message", timeout=60)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
    streamed = channel.stream_stream(f"{service}ModelStreamInfer")(iter([b"not a message"] * 2), timeout=60)
    print([answer[2:] for answer in streamed])
"""


def ran(*words: object, timeout_s: float = 120.0) -> str:
    """What a Python of its own prints, which ends well."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def program(text: str, *arguments: object) -> str:
    return ran("-c", text, *arguments)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("grpc") / "null.bundle")
    with serving(bundle.folder, "--max-batch", 32, "--grpc-port", 0) as running:
        yield running
        assert running.stop() == 0
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]


def test_tritons_client_finds_all_that_it_asks_for(speaking: Running, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture())
    words = (f"127.0.0.1:{grpc_port(speaking)}", path, "shared")
    ran("-m", "tests.deploy.runtime.grpc.client", *words, timeout_s=120)


def test_calls_are_counted_with_their_status(speaking: Running, tmp_path: Path) -> None:
    assert program(ASK, f"127.0.0.1:{grpc_port(speaking)}", "", "", "", "") == "answered"
    told = speaking.ask("GET", "/metrics")[2].decode()
    assert 'edge_requests_total{code="OK",endpoint="ModelInfer",protocol="grpc"}' in told
    assert 'edge_http_requests_total{code="OK",endpoint="grpc ModelInfer"}' in told, "for one more release"


def test_bytes_that_are_no_grpc_end_their_connection_only(speaking: Running) -> None:
    with socket.create_connection(("127.0.0.1", grpc_port(speaking)), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        with suppress(ConnectionError):  # it may end it either way
            while connection.recv(1 << 16):
                pass
    assert program(ASK, f"127.0.0.1:{grpc_port(speaking)}", "", "", "", "") == "answered"


def test_bytes_that_are_no_message_are_the_clients_mistake(speaking: Running) -> None:
    words = "the call's 13 bytes are not a whole inference.ModelInferRequest"
    once, streamed = program(RAW, f"127.0.0.1:{grpc_port(speaking)}").splitlines()
    assert once == f"INVALID_ARGUMENT {words}"
    assert streamed.count(words) == 2


def test_what_is_in_flight_when_the_server_stops_is_answered(tmp_path: Path) -> None:
    with serving(null_bundle(tmp_path / "null.bundle", delay_ms=600).folder, "--grpc-port", 0) as running:
        with Http2Client(grpc_port(running)) as client, Http2Client(grpc_port(running)) as idle:
            stream = client.send_call(f"{SERVICE_PATH}/ModelInfer".encode(), infer_request())
            idle.call(f"{SERVICE_PATH}/ServerLive".encode(), b"")
            running.wait_for_depth(1)
            running.process.send_signal(signal.SIGTERM)
            assert client.reply(stream).status == "0"
            assert idle.goaway() == NO_ERROR, "told to call elsewhere"
        assert running.process.wait(PATIENCE_S) == 0


def test_a_flaw_in_http2_leaves_no_line_in_the_log(speaking: Running) -> None:
    """The library has words of its own for some of them: for a request with a reply's :status, for one."""
    before = len(speaking.lines)
    with Http2Client(grpc_port(speaking)) as client:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode_field(b":status", b"x")))
    assert program(ASK, f"127.0.0.1:{grpc_port(speaking)}", "", "", "", "") == "answered"
    assert speaking.lines[before:] == []


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--bundle", bundle.folder, "--port=0", "--host=127.0.0.1", f"--grpc-port={port}", "--certify=off")
        done = subprocess.run(
            command("serve", *flags), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    plain = [line for line in done.stderr.splitlines() if line.startswith("deploy.runtime:")]
    assert done.returncode == 1
    assert plain == [
        f"deploy.runtime: cannot listen on 127.0.0.1:{port} for gRPC; choose another: --grpc-port or GRPC_PORT"
    ]


def test_tls_client_certificates_and_tokens_hold_for_grpc_too(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    server, client = ours.issue("server"), ours.issue("client")
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-sixteen-letters\n")
    tokens.chmod(0o600)
    flags = ("--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", ours.root, "--token-file", tokens)
    with serving(null_bundle(tmp_path / "null.bundle").folder, "--grpc-port", 0, *flags) as running:
        place = f"localhost:{grpc_port(running)}"
        shown = (ours.root, client.cert, client.key)
        assert program(ASK, place, *shown, "a-token-of-sixteen-letters") == "answered"
        for token in ("", "another-token-than-ours"):
            assert program(ASK, place, *shown, token).startswith("StatusCode.UNAUTHENTICATED a token is required")
        with pytest.raises(AssertionError):  # no certificate: not even a connection
            program(ASK, place, ours.root, "", "", "a-token-of-sixteen-letters")
    assert json.dumps([line for line in running.lines if "a-token" in json.dumps(line)]) == "[]"
