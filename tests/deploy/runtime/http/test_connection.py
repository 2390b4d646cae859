"""HTTP on a real socket: keep-alive, pipelining, chunks, limits, slow senders, and bytes of no sense."""

import json
import socket
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, Running, answer, request

BODY = json.dumps({"inputs": [CAT], "id": "a"}).encode()


def test_a_connection_is_kept_and_its_requests_are_answered_in_order(server: Running) -> None:
    with server.connect() as connection:
        for number in range(3):
            connection.sendall(request("POST", INFER, BODY.replace(b'"a"', b'"%d"' % number)))
            status, headers, body = answer(connection)
            assert (status, json.loads(body)["id"], headers["connection"]) == (200, str(number), "keep-alive")


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    parts = []
    for number in range(20):
        parts.append(request("POST", INFER, BODY.replace(b'"a"', b'"%d"' % number)))
        parts.append(request("GET", "/v2"))
        parts.append(chunked(BODY.replace(b'"a"', b'"c%d"' % number)))
    with server.connect() as connection:
        connection.sendall(b"".join(parts))
        for number in range(20):
            assert json.loads(answer(connection)[2])["id"] == str(number)
            assert json.loads(answer(connection)[2])["name"] == "edge-toolchain"
            assert json.loads(answer(connection)[2])["id"] == f"c{number}"


def chunked(body: bytes, size: int = 7) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return request("POST", INFER).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + encoded + b"0\r\n\r\n"


def test_any_cut_of_the_bytes_gives_the_same_answers(server: Running) -> None:
    whole = chunked(BODY) + request("POST", INFER, BODY)
    for step in (1, 13, 101):
        with server.connect() as connection:
            for at in range(0, len(whole), step):
                connection.send(whole[at : at + step])
            assert [answer(connection)[0] for _ in range(2)] == [200, 200]


def test_a_client_that_expects_to_be_told_to_continue_is_told(server: Running) -> None:
    head = request("POST", INFER, BODY, Expect="100-continue")[: -len(BODY)]
    with server.connect() as connection:
        connection.sendall(head)
        assert answer(connection)[0] == 100
        connection.sendall(BODY)
        assert answer(connection)[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request("POST", INFER, Content_Length="2000000", Expect="100-continue"))
        status, headers, body = answer(connection)
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["error"] == "expected a body of at most 1048576 bytes, got 2000000 bytes"


def test_a_client_that_sends_a_too_large_body_all_the_same_can_read_why(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request("POST", INFER, bytes(1 << 21)))
        assert answer(connection)[0] == 413
    with server.connect() as connection:
        connection.sendall(chunked(bytes(1 << 21), 1 << 16))
        assert answer(connection)[0] == 413


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"nonsense\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"GET / HTTP/2.0\r\n\r\n", 400, "HTTP/2.0 is not supported"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431, "the head is larger than 16384 bytes"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, 431, "the head is larger than 16384 bytes"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not an HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400, "the only supported Transfer-Encoding"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "a malformed chunk"),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "the only supported Transfer-Encoding",
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 4000 + b"\r\n",
            431,
            "more than 16384 bytes around the chunks",
        ),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 20_000 + b"\r\na\r\n",
            431,
            "more than 16384 bytes around the chunks",
        ),
    ],
)
def test_what_is_not_a_request_is_refused_and_the_connection_closed(
    server: Running, sent: bytes, status: int, message: str
) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        found, _, body = answer(connection)
        assert connection.recv(1) == b""
    assert found == status
    assert message in json.loads(body)["error"]


def test_trailers_do_not_change_what_the_request_means(server: Running) -> None:
    sent = chunked(BODY).removesuffix(b"\r\n") + b"Content-Encoding: gzip\r\nInference-Header-Content-Length: 0\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(sent)
        assert answer(connection)[0] == 200


def test_a_size_of_thousands_of_digits_costs_no_place_in_the_queue(server: Running) -> None:
    for _ in range(70):
        status, _, body = server.ask("POST", INFER, BODY, Inference_Header_Content_Length="9" * 5000)
        assert (status, json.loads(body)["error"]) == (
            400,
            "Inference-Header-Content-Length: expected a whole number of bytes",
        )
    assert server.ask("POST", INFER, BODY)[0] == 200


def test_a_connection_that_never_asks_is_closed(server: Running) -> None:
    began = time.monotonic()
    with server.connect() as connection:
        assert connection.recv(1) == b""
    assert time.monotonic() - began < 9.5, "after --sender-timeout 1, not the 10 s of the default"


def test_slow_senders_are_told_and_closed(server: Running) -> None:
    slow_head, slow_body = "no request head within 1 s", "less than 65536 bytes of the body a second for 1 s"
    for sent, words in ((b"GET /v2 HT", slow_head), (request("POST", INFER, Content_Length="100"), slow_body)):
        began = time.monotonic()
        with server.connect() as connection:
            connection.sendall(sent)
            status, _, body = answer(connection)
            assert connection.recv(1) == b""
        assert status == 408
        assert json.loads(body)["error"] == words
        assert time.monotonic() - began < 9.5, "after --sender-timeout 1, not the 10 s of the default"


def test_a_client_that_closes_its_half_is_still_answered(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request("GET", "/v2") + request("POST", INFER, BODY))
        connection.shutdown(socket.SHUT_WR)
        assert [answer(connection)[0] for _ in range(2)] == [200, 200]
        assert connection.recv(1) == b""


def test_a_client_that_reads_nothing_is_cut_off(server: Running) -> None:
    limit = time.monotonic() + PATIENCE_S
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        with pytest.raises(ConnectionError):
            while time.monotonic() < limit:
                with suppress(TimeoutError):
                    connection.sendall(request("GET", "/metrics") * 200)
    assert server.ask("GET", "/v2/health/live")[0] == 200


def test_wrong_methods_and_paths_are_named(server: Running) -> None:
    for method, path, status, message in (
        ("DELETE", "/v2", 405, "DELETE is not allowed here; expected GET, HEAD"),
        ("GET", INFER, 405, "GET is not allowed here; expected POST"),
        ("GET", "/nowhere", 404, "nothing at /nowhere; GET / lists the endpoints"),
        ("POST", "/v2/models/dog/infer", 404, "no model 'dog' here; this server has 'null'"),
        ("GET", "/v2/models/null/versions/9", 404, "no version '9' of 'null' here; it is '1'"),
    ):
        found, headers, body = server.ask(method, path)
        assert (found, json.loads(body)["error"]) == (status, message)
        assert status == 404 or "allow" in headers


def test_head_is_get_without_the_body(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request("HEAD", "/v2") + request("GET", "/v2/models/n%75ll"))
        status, headers, _ = answer(connection, head_only=True)
        assert (status, int(headers["content-length"]) > 0) == (200, True)
        assert json.loads(answer(connection)[2])["name"] == "null"


@pytest.mark.parametrize(
    ("version", "asks", "kept"),
    [("1.1", None, True), ("1.1", "close", False), ("1.1", "TE, Close", False), ("1.0", "keep-alive", True)],
)
def test_a_client_says_whether_its_connection_is_kept(
    server: Running, version: str, asks: str | None, kept: bool
) -> None:
    for method, path, body in (("GET", "/v2", b""), ("POST", INFER, BODY)):
        sent = request(method, path, body, **({"Connection": asks} if asks else {}))
        with server.connect() as connection:
            connection.sendall(sent.replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
            status, headers, _ = answer(connection)
            assert (status, headers["connection"]) == (200, "keep-alive" if kept else "close")
            if not kept:
                assert connection.recv(1) == b""


def test_http_1_0_and_upgrade_offers_are_answered_plainly(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.0\r\n\r\n")
        assert answer(connection)[1]["connection"] == "close"
        assert connection.recv(1) == b""
    with server.connect() as connection:
        connection.sendall(request("POST", INFER, BODY, Upgrade="h2c", Connection="Upgrade"))
        assert answer(connection)[0] == 200


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_requests_get_only_answers_below_500(server: Running, data: st.DataObject) -> None:
    sent = bytearray(request("POST", INFER, BODY, Connection="close"))
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    with server.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        reply = connection.recv(1 << 16)
    assert not reply or int(reply.split()[1]) in range(100, 500), bytes(sent)
