"""A real server with real certificates: TLS, clients' certificates, tokens, the admin port."""

import json
import signal
import ssl
from pathlib import Path

import numpy as np
import pytest
from tritonclient import http as triton

from deploy.runtime.handover.socket_holder import LIVE
from deploy.runtime.security.tls import expiry
from tests.bundles import null_bundle
from tests.deploy.runtime.handover.test_socket_holder import a_door, free_port
from tests.deploy.runtime.security.authority import Authority, Issued
from tests.deploy.runtime.security.secured import asked, closed, dialled
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, Running, answer, request, serving

BODY = json.dumps({"inputs": [CAT]}).encode()
TOKEN = "a-token-of-ours-to-test-with"
SHOWN = f"Bearer {TOKEN}"


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


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    null_folder: Path, ours: Authority, tmp_path: Path
) -> None:
    def shown(server: Running) -> str:
        with dialled(server, ours.trusting()) as connection:
            found = connection.getpeercert()
        ((_, name),), *_ = found["subject"] if found else ((("", ""),),)
        return str(name)

    def end(server: Running) -> float:
        metrics = asked(server, ours.trusting(), "/metrics")[1]
        return float(metrics.partition("\nedge_tls_certificate_expiry_timestamp_seconds ")[2].partition("\n")[0])

    first, second = ours.issue("first"), ours.issue("second", days=50)
    live = Issued(tmp_path / "live.pem", tmp_path / "live.key")
    put(first, live)
    with closed(null_folder, live) as server, dialled(server, ours.trusting()) as kept:
        assert (shown(server), end(server)) == ("first", expiry(first.cert).timestamp())
        put(second, live)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("renewed")
        assert (shown(server), end(server)) == ("second", expiry(second.cert).timestamp())
        put(first, live)
        live.key.write_text("junk")
        server.process.send_signal(signal.SIGHUP)
        assert "expected a private key in PEM; the old one stays in use" in server.wait_for("not renewed")["reason"]
        assert (shown(server), end(server)) == ("second", expiry(second.cert).timestamp())
        kept.sendall(request("POST", INFER, BODY))  # a connection of before goes on with what it has
        assert answer(kept)[0] == 200


def put(issued: Issued, at: Issued) -> None:
    at.cert.write_bytes(issued.cert.read_bytes())
    at.key.write_bytes(issued.key.read_bytes())
    at.key.chmod(0o600)


def test_clients_without_a_certificate_get_only_health(
    null_folder: Path, ours: Authority, server_cert: Issued, tmp_path: Path
) -> None:
    client, stranger = ours.issue("client"), Authority(tmp_path, "strangers").issue("stranger")
    with closed(null_folder, server_cert, "--tls-client-ca", ours.root) as server:
        assert asked(server, ours.trusting(), "/v2/health/ready")[0] == 200
        for path, body in ((INFER, BODY), ("/metrics", b""), ("/v2", b"")):
            status, said = asked(server, ours.trusting(), path, body)
            assert (status, "a client certificate is required" in said) == (403, True)
        assert asked(server, ours.trusting(client), INFER, BODY)[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError), match=r"closed|reset|alert|unknown ca"):
            asked(server, ours.trusting(stranger), "/v2/health/ready")
        options = {"ca_certs": str(ours.root), "certfile": str(client.cert), "keyfile": str(client.key)}
        with triton.InferenceServerClient(f"localhost:{server.port}", ssl=True, ssl_options=options) as theirs:
            assert theirs.get_server_metadata()["name"] == "edge-toolchain"


def test_without_a_token_a_request_is_refused_before_its_body_is_sent(null_folder: Path, tmp_path: Path) -> None:
    file = tokens_in(tmp_path)
    with serving(null_folder, TOKEN_FILE=str(file), LOG_LEVEL="debug") as server:
        with server.connect() as connection:
            connection.sendall(request("POST", INFER, Content_Length="60000000", Expect="100-continue"))
            status, headers, body = answer(connection)
        assert (status, headers["www-authenticate"], headers["connection"]) == (401, "Bearer", "close")
        assert json.loads(body)["error"] == "a token is required: Authorization: Bearer TOKEN"
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


def test_a_new_token_needs_no_restart(null_folder: Path, tmp_path: Path) -> None:
    file = tokens_in(tmp_path)
    with serving(null_folder, "--token-file", file) as server:
        file.write_text("another-token-to-test-with\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("renewed")
        assert server.ask("GET", "/v2", Authorization="Bearer another-token-to-test-with")[0] == 200
        assert server.ask("GET", "/v2", Authorization=SHOWN)[0] == 401


def test_with_an_admin_port_metrics_are_only_there_and_it_is_closed_likewise(
    null_folder: Path, ours: Authority, server_cert: Issued, tmp_path: Path
) -> None:
    files = ("--tls-cert", server_cert.cert, "--tls-key", server_cert.key)
    flags = ("--admin-port", 0, "--admin-host", "127.0.0.1", "--token-file", tokens_in(tmp_path))
    with serving(null_folder, *files, *flags, LOG_LEVEL="debug") as server:
        admin, trusting = server.wait_for("listening for control")["port"], ours.trusting()
        assert asked(server, trusting, "/healthz", port=admin)[0] == 200
        assert asked(server, trusting, "/metrics", port=admin)[0] == 401
        status, said = asked(server, trusting, "/metrics", port=admin, Authorization=SHOWN)
        assert (status, "edge_connections 0" in said) == (200, True)
        status, said = asked(server, trusting, INFER, BODY, port=admin, Authorization=SHOWN)
        assert (status, f"everything else is on port {server.port}" in said) == (404, True)
        status, said = asked(server, trusting, "/metrics", Authorization=SHOWN)
        assert (status, json.loads(said)["error"]) == (404, f"/metrics is answered on the admin port, {admin}")
        assert asked(server, trusting, "http://any/metrics", Authorization=SHOWN)[0] == 404, "an absolute target alike"
        assert asked(server, trusting, "http://any/metrics?http://any/healthz")[0] == 401
        assert asked(server, trusting, "http://any/healthz")[0] == 200
        assert asked(server, trusting, INFER, BODY, Authorization=SHOWN)[0] == 200
        assert server.stop() == 0
        assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]


def test_sigterm_drains_in_tls_too(tmp_path: Path, ours: Authority, server_cert: Issued) -> None:
    slow = null_bundle(tmp_path / "null.bundle", delay_ms=1500).folder
    files = ("--tls-cert", server_cert.cert, "--tls-key", server_cert.key)
    with serving(slow, *files) as server, dialled(server, ours.trusting()) as connection:
        connection.sendall(request("POST", INFER, BODY))
        server.wait_for_depth(1, lambda: asked(server, ours.trusting(), "/metrics")[1])
        server.process.terminate()
        status, headers, _ = answer(connection)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""
        assert server.process.wait(PATIENCE_S) == 0


def test_behind_a_door_tls_is_spoken_too(
    tmp_path: Path, null_folder: Path, ours: Authority, server_cert: Issued
) -> None:
    port = free_port()
    (tmp_path / LIVE).write_text("edge-null-1")
    with (
        a_door(tmp_path, port),
        closed(null_folder, server_cert, "--door", tmp_path, "--name", "edge-null-1") as server,
    ):
        server.wait_for("door opened")
        with dialled(server, ours.trusting(), port) as connection:
            for _ in range(3):
                connection.sendall(request("POST", INFER, BODY))
                assert answer(connection)[0] == 200
