"""What strangers try on a port with TLS: nothing holds a connection for ever, or shuts clients out."""

import json
import socket
import ssl
import time

import pytest

from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.security.secured import asked, connections, dialled
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, Running, answer, request

BODY = json.dumps({"inputs": [CAT]}).encode()


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
        assert time.monotonic() - began < 9.5, "after --sender-timeout 1, not the 10 s of the default"


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
            connection.settimeout(PATIENCE_S)
            with_notice = connection.unwrap() if not sent.endswith(b"}") else None  # close_notify, and the answer to it
            assert with_notice is None or isinstance(with_notice, socket.socket)
    assert connections(secured, ours.trusting()) == 1


def test_slow_senders_and_idle_clients_are_ended_in_tls_too(secured: Running, ours: Authority) -> None:
    for sent in (b"GET /v2 HT", request("POST", INFER, Content_Length="100")):
        with dialled(secured, ours.trusting()) as connection:
            connection.sendall(sent)
            assert answer(connection)[0] == 408
            assert connection.recv(1) == b""
    began = time.monotonic()
    with dialled(secured, ours.trusting()) as connection:
        assert connection.recv(1) == b""
    assert time.monotonic() - began < 9.5, "after --sender-timeout 1, not the 10 s of the default"


def test_a_client_that_reads_nothing_is_cut_off_in_tls_too(secured: Running, ours: Authority) -> None:
    limit = time.monotonic() + PATIENCE_S
    with dialled(secured, ours.trusting()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while time.monotonic() < limit:
                connection.sendall(request("GET", "/metrics") * 200)
        assert connections(secured, ours.trusting()) == 1
