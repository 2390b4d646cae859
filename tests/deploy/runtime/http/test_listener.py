"""Ports side by side: each with places of its own; and what keeps a closed server from starting is one line."""

import json
import socket
from pathlib import Path

from deploy.runtime.http.limits import Limits
from deploy.runtime.http.listener import ADMIN_CONNECTIONS, admin_limits
from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, answer, request, serving
from tests.deploy.runtime.test_server import failed

BODY = json.dumps({"inputs": [CAT]}).encode()


def test_the_admin_port_takes_little_and_never_more_than_the_other() -> None:
    found = admin_limits(Limits(sender_s=3))
    assert (found.connections, found.body_bytes, found.sender_s) == (ADMIN_CONNECTIONS, 1 << 20, 3)
    small = Limits(connections=2, connections_per_address=1, body_bytes=10)
    assert admin_limits(small) == small


def test_a_crowd_shuts_no_operator_out(tmp_path: Path) -> None:
    slow = null_bundle(tmp_path / "null.bundle", delay_ms=2000).folder
    admin_flags = ("--admin-port", 0, "--admin-host", "127.0.0.1")
    flags = ("--connections", 2, "--connections-per-address", 0, *admin_flags)
    with serving(slow, *flags) as server, server.connect() as one, server.connect() as other:
        for crowd in (one, other):
            crowd.sendall(request("POST", INFER, BODY))
        admin = server.wait_for("listening for control")["port"]

        def metrics() -> str:
            with socket.create_connection(("127.0.0.1", admin), PATIENCE_S) as operator:
                operator.sendall(request("GET", "/metrics"))
                return answer(operator)[2].decode()

        server.wait_for_depth(2, metrics)  # they are read: who has asked nothing yet makes way
        with server.connect() as late:
            assert answer(late)[0] == 503
        with socket.create_connection(("127.0.0.1", admin), 20) as operator:
            operator.sendall(request("GET", "/metrics"))
            status, _, text = answer(operator)
        assert status == 200
        assert b'edge_rejections_total{reason="connections"} 1' in text
        assert [answer(crowd)[0] for crowd in (one, other)] == [200, 200]


def test_what_keeps_a_closed_server_from_starting_is_one_line(tmp_path: Path) -> None:
    bundle, ours = null_bundle(tmp_path / "null.bundle").folder, Authority(tmp_path)
    issued, other, tokens = ours.issue("server"), ours.issue("other"), tmp_path / "tokens"
    tokens.write_text("too-short\n")
    for flags, message in (
        (("--tls-cert", issued.cert), "--tls-key is missing; TLS needs both --tls-cert and --tls-key"),
        (("--tls-cert", issued.cert, "--tls-key", other.key), f"--tls-key {other.key}: not the key of the certificate"),
        (("--token-file", tokens), f"--token-file {tokens}: line 1: expected 16 characters or more, got 9"),
        (("--admin-port", 8080), "--admin-port 8080: --port is the same; choose another"),
    ):
        code, line = failed("serve", "--bundle", bundle, "--port", 8080, "--host", "127.0.0.1", *flags)
        assert code == 2
        assert line.startswith(f"deploy.runtime: {message}")


def test_an_admin_port_that_is_taken_is_named(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle").folder
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--port", 0, "--host", "127.0.0.1", "--admin-port", port, "--admin-host", "127.0.0.1")
        code, line = failed("serve", "--bundle", bundle, *flags)
    assert code == 1
    assert line == (
        f"deploy.runtime: cannot listen on 127.0.0.1:{port} (Address already in use); "
        "choose another: --admin-port or ADMIN_PORT"
    )


def test_a_page_of_another_site_may_post_nothing(tmp_path: Path) -> None:
    """What browsers say of the page that asks; a text of no type needs no leave from the server."""
    with serving(null_bundle(tmp_path / "null.bundle").folder) as server:
        for path in (INFER, "/v2/systemsharedmemory/unregister"):
            for site in ("cross-site", "same-site"):
                status, _, body = server.ask("POST", path, BODY, Sec_Fetch_Site=site, Content_Type="text/plain")
                assert (status, json.loads(body)["error"].split(":")[0]) == (403, "another site's page asks here")
            assert server.ask("POST", path, BODY, Sec_Fetch_Site="same-origin")[0] == 200
        assert server.ask("GET", "/v2/health/ready", Sec_Fetch_Site="cross-site")[0] == 200
