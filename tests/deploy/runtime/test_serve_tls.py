"""A real server with real certificates: TLS, clients' certificates, tokens, the admin port; and what strangers try."""

import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient import http as triton

from tests.bundles import null_bundle
from tests.deploy.runtime.authority import Authority, Issued
from tests.deploy.runtime.server import CAT, INFER, ROOT, Running, answer, command, request, serving

BODY = json.dumps({"inputs": [CAT]}).encode()
TOKEN = "a-token-of-ours-to-test-with"
SHOWN = f"Bearer {TOKEN}"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def server_cert(ours: Authority) -> Issued:
    issued = ours.issue("server")
    issued.key.chmod(0o600)
    return issued


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return null_bundle(tmp_path_factory.mktemp("tls") / "null.bundle").folder


@pytest.fixture(scope="module")
def secured(bundle: Path, ours: Authority, server_cert: Issued) -> Iterator[Running]:
    """One server for all tests that only ask."""
    with closed(bundle, server_cert, "--sender-timeout", 1, "--connections", 24) as server:
        yield server


@contextmanager
def closed(bundle: Path, issued: Issued, *flags: object, **environment: str) -> Iterator[Running]:
    files = ("--tls-cert", issued.cert, "--tls-key", issued.key)
    with serving(bundle, *files, *flags, LOG_LEVEL="debug", **environment) as server:
        yield server
        assert server.process.poll() is None, "the server died"
        assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]


@contextmanager
def dialled(server: Running, context: ssl.SSLContext, port: int = 0) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port or server.port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def asked(
    server: Running, context: ssl.SSLContext, path: str, body: bytes = b"", port: int = 0, **headers: str
) -> tuple[int, str]:
    with dialled(server, context, port) as connection:
        connection.sendall(request("POST" if body else "GET", path, body, **headers))
        status, _, said = answer(connection)
        return status, said.decode()


def test_requests_are_answered_in_tls_one_after_the_other_and_pipelined(secured: Running, ours: Authority) -> None:
    with dialled(secured, ours.trusting()) as connection:
        for _ in range(3):
            connection.sendall(request("POST", INFER, BODY))
            assert answer(connection)[0] == 200
        connection.sendall(request("POST", INFER, BODY) * 50)
        assert {answer(connection)[0] for _ in range(50)} == {200}
        assert connection.version() == "TLSv1.3"


def test_a_body_of_many_records_arrives_whole(secured: Running, ours: Authority) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (128, 8, 8, 3), np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": [128, 8, 8, 3], "data": pictures.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    assert len(body) > 80_000
    with dialled(secured, ours.trusting()) as connection:
        for step in (len(body), 5000):
            sent = request("POST", INFER, body)
            for at in range(0, len(sent), step):
                connection.sendall(sent[at : at + step])
            status, _, said = answer(connection)
            assert (status, json.loads(said)["outputs"][0]["shape"]) == (200, [128, 4])


def test_the_protocols_own_client_speaks_tls(secured: Running, ours: Authority) -> None:
    name = f"localhost:{secured.port}"
    with triton.InferenceServerClient(name, ssl=True, ssl_options={"ca_certs": str(ours.root)}) as client:
        assert client.is_server_ready()
        tensor = triton.InferInput("image", [1, 8, 8, 3], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
        assert client.infer("null", [tensor]).as_numpy("logits").shape == (1, 4)


def test_old_tls_plain_http_and_a_client_that_trusts_another_get_nothing(secured: Running, ours: Authority) -> None:
    old = ours.trusting()
    with pytest.deprecated_call():
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), dialled(secured, old):
        pass
    with pytest.raises(ssl.SSLCertVerificationError), dialled(secured, ssl.create_default_context()):
        pass
    with secured.connect() as plain:
        plain.sendall(request("GET", "/v2"))
        assert is_ended(plain)
    assert asked(secured, ours.trusting(), "/v2")[0] == 200


def is_ended(connection: socket.socket) -> bool:
    """Whether the server ends it without a byte, in order or not."""
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True


def test_a_handshake_that_is_never_finished_is_ended(secured: Running) -> None:
    hello = bytes.fromhex("160301020001")  # a record of 512 bytes is begun
    for sent in (b"", hello):
        began = time.monotonic()
        with secured.connect() as connection:
            connection.sendall(sent)
            assert is_ended(connection)
        assert time.monotonic() - began < 5


def test_strangers_without_a_handshake_make_way_for_clients(secured: Running, ours: Authority) -> None:
    """--connections is 24: without counting them, as many as there are descriptors would be held."""
    strangers = [secured.connect() for _ in range(60)]
    try:
        assert asked(secured, ours.trusting(), INFER, BODY)[0] == 200
        text = asked(secured, ours.trusting(), "/metrics")[1]
        assert next(float(line.split()[1]) for line in text.splitlines() if line.startswith("edge_connections ")) <= 24
    finally:
        for one in strangers:
            one.close()
    assert 'edge_rejections_total{reason="handshake"}' in asked(secured, ours.trusting(), "/metrics")[1]


def test_a_client_that_closes_without_a_word_or_in_mid_request_leaves_nothing_behind(
    secured: Running, ours: Authority
) -> None:
    for sent in (b"", b"GET /v2 HT", request("POST", INFER, Content_Length="100"), request("POST", INFER, BODY)):
        with dialled(secured, ours.trusting()) as connection:
            connection.sendall(sent)
        with dialled(secured, ours.trusting()) as connection:
            connection.sendall(sent)
            connection.settimeout(5)
            with_notice = connection.unwrap() if not sent.endswith(b"}") else None  # close_notify, and the answer to it
            assert with_notice is None or isinstance(with_notice, socket.socket)
    assert connections(secured, ours.trusting()) == 1


def connections(server: Running, context: ssl.SSLContext) -> float:
    """As the server counts them, this one too, once the others have had time to end."""
    for _ in range(60):
        text = asked(server, context, "/metrics")[1]
        found = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("edge_connections "))
        if found <= 1:
            break
        time.sleep(0.1)
    return found


def test_slow_senders_and_idle_clients_are_ended_in_tls_too(secured: Running, ours: Authority) -> None:
    for sent in (b"GET /v2 HT", request("POST", INFER, Content_Length="100")):
        with dialled(secured, ours.trusting()) as connection:
            connection.sendall(sent)
            assert answer(connection)[0] == 408
            assert connection.recv(1) == b""
    began = time.monotonic()
    with dialled(secured, ours.trusting()) as connection:
        assert connection.recv(1) == b""
    assert time.monotonic() - began < 5


def test_a_client_that_reads_nothing_is_cut_off_in_tls_too(secured: Running, ours: Authority) -> None:
    limit = time.monotonic() + 20
    with dialled(secured, ours.trusting()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while time.monotonic() < limit:
                connection.sendall(request("GET", "/metrics") * 200)
        assert connections(secured, ours.trusting()) == 1


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    bundle: Path, ours: Authority, tmp_path: Path
) -> None:
    def shown(server: Running) -> str:
        with dialled(server, ours.trusting()) as connection:
            found = connection.getpeercert()
        assert found
        return str(dict(part[0] for part in found["subject"])["commonName"])  # type: ignore[misc]  # pairs, in its words

    first, second = ours.issue("first"), ours.issue("second")
    live = Issued(tmp_path / "live.pem", tmp_path / "live.key")
    put(first, live)
    with closed(bundle, live) as server, dialled(server, ours.trusting()) as kept:
        assert shown(server) == "first"
        put(second, live)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("renewed")
        assert shown(server) == "second"
        live.key.write_text("junk")
        server.process.send_signal(signal.SIGHUP)
        assert "expected a private key in PEM; the old one goes on" in server.wait_for("not renewed")["reason"]
        assert shown(server) == "second"
        kept.sendall(request("POST", INFER, BODY))  # a connection of before goes on with what it has
        assert answer(kept)[0] == 200


def put(issued: Issued, at: Issued) -> None:
    at.cert.write_bytes(issued.cert.read_bytes())
    at.key.write_bytes(issued.key.read_bytes())
    at.key.chmod(0o600)


def test_clients_without_a_certificate_get_only_health(
    bundle: Path, ours: Authority, server_cert: Issued, tmp_path: Path
) -> None:
    client, stranger = ours.issue("client"), Authority(tmp_path, "strangers").issue("stranger")
    with closed(bundle, server_cert, "--tls-client-ca", ours.root) as server:
        assert asked(server, ours.trusting(), "/v2/health/ready")[0] == 200
        for path, body in ((INFER, BODY), ("/metrics", b""), ("/v2", b"")):
            status, said = asked(server, ours.trusting(), path, body)
            assert (status, "a client certificate is needed here" in said) == (403, True)
        assert asked(server, ours.trusting(client), INFER, BODY)[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError), match=r"closed|reset|alert|unknown ca"):
            asked(server, ours.trusting(stranger), "/v2/health/ready")
        options = {"ca_certs": str(ours.root), "certfile": str(client.cert), "keyfile": str(client.key)}
        with triton.InferenceServerClient(f"localhost:{server.port}", ssl=True, ssl_options=options) as theirs:
            assert theirs.get_server_metadata()["name"] == "edge-toolchain"


def test_without_a_token_a_request_is_refused_before_its_body_is_sent(bundle: Path, tmp_path: Path) -> None:
    file = tokens_in(tmp_path)
    with serving(bundle, TOKEN_FILE=str(file), LOG_LEVEL="debug") as server:
        with server.connect() as connection:
            connection.sendall(request("POST", INFER, Content_Length="60000000", Expect="100-continue"))
            status, headers, body = answer(connection)
        assert (status, headers["www-authenticate"], headers["connection"]) == (401, "Bearer", "close")
        assert json.loads(body)["error"] == "a token is needed here: Authorization: Bearer TOKEN"
        assert server.ask("GET", "/healthz")[0] == 200
        assert server.ask("GET", "/metrics")[0] == 401
        with server.connect() as connection:
            for _ in range(3):
                connection.sendall(request("POST", INFER, BODY, Authorization=SHOWN))
                assert answer(connection)[0] == 200
        text = server.ask("GET", "/metrics", Authorization=SHOWN)[2].decode()
        assert 'edge_rejections_total{reason="unauthorized"} 2' in text
        assert TOKEN not in json.dumps(server.lines)


def tokens_in(folder: Path) -> Path:
    file = folder / "tokens"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


def test_a_new_token_needs_no_restart(bundle: Path, tmp_path: Path) -> None:
    file = tokens_in(tmp_path)
    with serving(bundle, "--token-file", file) as server:
        file.write_text("another-token-to-test-with\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("renewed")
        assert server.ask("GET", "/v2", Authorization="Bearer another-token-to-test-with")[0] == 200
        assert server.ask("GET", "/v2", Authorization=SHOWN)[0] == 401


def test_with_an_admin_port_metrics_are_only_there_and_it_is_closed_likewise(
    bundle: Path, ours: Authority, server_cert: Issued, tmp_path: Path
) -> None:
    flags = ("--admin-port", 0, "--admin-host", "127.0.0.1", "--token-file", tokens_in(tmp_path))
    with closed(bundle, server_cert, *flags) as server:
        admin, trusting = server.wait_for("listening for control")["port"], ours.trusting()
        assert asked(server, trusting, "/healthz", port=admin)[0] == 200
        assert asked(server, trusting, "/metrics", port=admin)[0] == 401
        status, said = asked(server, trusting, "/metrics", port=admin, Authorization=SHOWN)
        assert (status, "edge_connections 0" in said) == (200, True)
        status, said = asked(server, trusting, INFER, BODY, port=admin, Authorization=SHOWN)
        assert (status, f"for the rest ask port {server.port}" in said) == (404, True)
        status, said = asked(server, trusting, "/metrics", Authorization=SHOWN)
        assert (status, json.loads(said)["error"]) == (404, f"/metrics is answered on the admin port, {admin}")
        assert asked(server, trusting, INFER, BODY, Authorization=SHOWN)[0] == 200
        assert server.stop() == 0
        server.process.poll = lambda: None  # type: ignore[method-assign]  # it was told to end, and did


def test_sigterm_drains_in_tls_too(tmp_path: Path, ours: Authority, server_cert: Issued) -> None:
    slow = null_bundle(tmp_path / "null.bundle", delay_ms=300).folder
    files = ("--tls-cert", server_cert.cert, "--tls-key", server_cert.key)
    with serving(slow, *files) as server, dialled(server, ours.trusting()) as connection:
        connection.sendall(request("POST", INFER, BODY))
        time.sleep(0.1)
        server.process.terminate()
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""
        assert server.process.wait(15) == 0


@pytest.mark.parametrize("kind", ["plain", "tls", "mutual", "token"])
def test_the_images_health_check_finds_every_kind_of_server_ready(
    bundle: Path, ours: Authority, server_cert: Issued, tmp_path: Path, kind: str
) -> None:
    tls = ("--tls-cert", server_cert.cert, "--tls-key", server_cert.key)
    flags = {"plain": (), "tls": tls, "mutual": (*tls, "--tls-client-ca", ours.root)}
    with serving(bundle, *flags.get(kind, ("--token-file", tokens_in(tmp_path)))) as server:
        for told in ({}, {"TLS_CERT": "x"}) if kind in ("tls", "mutual") else ({},):
            ran = health(PORT=str(server.port), **told)
            assert (ran.returncode, ran.stdout) == (0, '{"name":"null","ready":true}\n')
        assert not [line for line in server.lines if line["event"] == "unexpected"]


def health(**environment: str) -> "subprocess.CompletedProcess[str]":
    """As Dockerfile.cpu has it run."""
    words = command(program=("-IS", str(ROOT / "deploy" / "runtime" / "healthcheck.py")))
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_the_health_check_fails_where_nothing_answers_or_is_not_ready(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ran = health(PORT=str(probe.getsockname()[1]))
        assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "[Errno 111] Connection refused\n")
    slow = null_bundle(tmp_path / "null.bundle", delay_ms=2000).folder
    with serving(slow, until="listening") as server:
        ran = health(PORT=str(server.port))
        assert ran.returncode == 1
        assert json.loads(ran.stderr)["ready"] is False
