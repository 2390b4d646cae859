"""What clients may cost all together, on a real server with small limits."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from deploy.runtime.http.limits import Limits, address_group
from tests.bundles import null_bundle
from tests.deploy.runtime.decoding.files import encode
from tests.deploy.runtime.server import CAT, INFER, PATIENCE_S, Running, answer, request, serving
from toolchain.records.tensors import Preprocessing

BODY = json.dumps({"inputs": [CAT]}).encode()
LARGE = 600_000
FLAGS = ("--max-body", 700_000, "--max-held", 1_000_000, "--connections", 8, "--sender-timeout", 2)
OTHERS = "127.0.0.2"  # another client: every address of 127/8 is this machine


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("small") / "null.bundle")
    with serving(bundle.folder, *FLAGS) as running:
        yield running


def connect(server: Running, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S, (address, 0))


def send_all(connections: list[socket.socket], content: bytes) -> None:
    for connection in connections:
        connection.sendall(content)


def count_open(connections: list[socket.socket]) -> int:
    """Those that the server has not closed, a moment after."""
    time.sleep(0.1)
    for connection in connections:
        connection.setblocking(False)
    return sum(_is_open(connection) for connection in connections)


def _is_open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def close_all(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def test_an_idle_connection_makes_way_for_a_new_one(small: Running) -> None:
    held = [connect(small, f"127.0.0.{number // 4 + 1}") for number in range(8)]
    try:
        for connection in held:  # all of them have had an answer
            connection.sendall(request("POST", INFER, BODY))
            assert answer(connection)[0] == 200
        with connect(small, "127.0.0.3") as late:
            late.sendall(request("POST", INFER, BODY))
            assert answer(late)[0] == 200
        assert [count_open([connection]) for connection in held] == [0] + [1] * 7
    finally:
        close_all(held)


def test_clients_that_send_one_letter_shut_nobody_out(small: Running) -> None:
    """Neither others, nor those of their own address, nor a polite one that waits between two requests."""
    polite = connect(small)
    polite.sendall(request("POST", INFER, BODY))
    assert answer(polite)[0] == 200
    held = [connect(small) for _ in range(20)]
    try:
        send_all(held[-3:], b"G")
        for address in ("127.0.0.1", OTHERS):
            with connect(small, address) as connection:
                connection.sendall(request("POST", INFER, BODY))
                assert answer(connection)[0] == 200
        polite.sendall(request("POST", INFER, BODY))
        assert answer(polite)[0] == 200
        assert count_open(held) <= 3
        assert 'edge_rejections_total{reason="dropped"}' in small.ask("GET", "/metrics")[2].decode()
    finally:
        close_all([*held, polite])


def test_one_address_has_half_of_the_connections_and_the_next_is_told(small: Running) -> None:
    held = [connect(small) for _ in range(4)]
    try:
        for connection in held:
            connection.sendall(request("POST", INFER, Content_Length="10", Expect="100-continue"))
            assert answer(connection)[0] == 100
        with connect(small) as late:
            status, _, body = answer(late)
        assert (status, json.loads(body)["error"]) == (
            503,
            "more than 4 connections from 127.0.0.1; try later",
        )
        assert count_open(held) == 4
        with connect(small, OTHERS) as other:
            other.sendall(request("POST", INFER, BODY))
            assert answer(other)[0] == 200
    finally:
        close_all(held)


def test_connections_in_use_are_kept_and_the_next_is_told(small: Running) -> None:
    held = [connect(small, f"127.0.0.{number // 4 + 1}") for number in range(8)]
    try:
        for connection in held:
            connection.sendall(request("POST", INFER, Content_Length="10", Expect="100-continue"))
            assert answer(connection)[0] == 100
        with connect(small, "127.0.0.3") as late:
            status, _, body = answer(late)
        assert (status, json.loads(body)["error"]) == (503, "more than 8 connections; try later")
        send_all(held, b"0" * 10)
        assert {answer(connection)[0] for connection in held} == {400}
    finally:
        close_all(held)


def test_bodies_that_are_announced_but_not_sent_take_nothing_from_others(small: Running) -> None:
    held = [connect(small) for _ in range(3)]
    try:
        send_all(held, request("POST", INFER, Content_Length=str(LARGE)) + b"abcd")
        for address in ("127.0.0.1", OTHERS):
            with connect(small, address) as connection:
                connection.sendall(request("POST", INFER, bytes(LARGE)))
                assert answer(connection)[0] == 400  # whole, and no JSON
        for connection in held:
            status, _, body = answer(connection)
            assert (status, json.loads(body)["error"]) == (408, "less than 65536 bytes of the body a second for 2 s")
    finally:
        close_all(held)


def test_bodies_that_would_fill_the_memory_are_refused_and_small_ones_pass(small: Running) -> None:
    with connect(small) as first, connect(small, OTHERS) as second:
        first.sendall(request("POST", INFER, Content_Length=str(LARGE)) + bytes(500_000))
        wait_for_reserved(small, 500_000)
        second.sendall(request("POST", INFER, Content_Length=str(LARGE)))
        status, _, body = answer(second)
        assert status == 503
        assert json.loads(body)["error"].startswith(
            "the requests of all clients would hold 1100000 bytes, the limit is 1000000"
        )
        assert small.ask("POST", INFER, BODY)[0] == 200
    wait_for_reserved(small, 0)
    with small.connect() as connection:
        chunks = b"".join(b"10000\r\n%s\r\n" % bytes(1 << 16) for _ in range(9))
        head = request("POST", INFER).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        connection.sendall(head + chunks + b"0\r\n\r\n")
        assert answer(connection)[0] == 400  # whole, and no JSON: what an answered body held is free again
    assert small.ask("POST", INFER, bytes(LARGE))[0] == 400


def test_one_address_leaves_half_of_the_memory_to_others(small: Running) -> None:
    with connect(small) as first, connect(small) as second, connect(small, OTHERS) as other:
        first.sendall(request("POST", INFER, Content_Length=str(LARGE)) + bytes(500_000))
        wait_for_reserved(small, 500_000)
        second.sendall(request("POST", INFER, bytes(300_000)))
        status, _, body = answer(second)
        assert status == 503
        assert "the requests of this client would hold 800000 bytes, the limit is 700000" in body.decode()
        other.sendall(request("POST", INFER, bytes(500_000)))
        assert answer(other)[0] == 400


def test_numbers_as_text_are_read_only_where_there_is_memory_for_it(small: Running) -> None:
    """They take eight times their size on the way to an array."""
    numbers = json.dumps({"inputs": [CAT | {"shape": [200, 8, 8, 3], "data": [7] * (192 * 200)}]}).encode()
    assert len(numbers) > 100_000
    status, _, body = small.ask("POST", INFER, numbers)
    assert status == 400
    assert json.loads(body)["error"].startswith(f"numbers as text that take about {8 * len(numbers)} bytes to read")


def wait_for_reserved(server: Running, size: int) -> None:
    limit = time.monotonic() + PATIENCE_S
    while f"edge_memory_reserved_bytes {size}" not in server.ask("GET", "/metrics")[2].decode().replace(".0", ""):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_client_is_an_ipv4_address_or_64_bits_of_ipv6_and_behind_a_proxy_nobody() -> None:
    assert address_group("10.1.2.3") == address_group("::ffff:10.1.2.3") == "10.1.2.3"
    assert address_group("2001:db8:1:2::5") == address_group("2001:db8:1:2:ffff::1") == "2001:db8:1:2::"
    assert address_group("fe80::1%eth0") == "fe80::"
    assert Limits().client_of("") is None, "a Unix socket"
    assert Limits().client_of(("10.1.2.3", 5)) == "10.1.2.3"
    assert Limits(connections_per_address=0).client_of(("10.1.2.3", 5)) is None


def test_an_image_that_waits_to_be_decoded_counts_twice(small: Running) -> None:
    """As the body that it came in, and as the copy that is decoded."""
    picture = encode(Image.effect_noise((100, 100), 30).convert("RGB"), "PNG")
    filled = picture + bytes(400_000 - len(picture))
    status, _, body = small.ask("POST", INFER, filled, Content_Type="image/png")
    assert status == 503
    assert "the requests of this client would hold 800000 bytes, the limit is 700000" in body.decode()
    assert small.ask("POST", INFER, filled[:300_000], Content_Type="image/png")[0] == 200
    wait_for_reserved(small, 0)


def test_images_that_would_find_no_room_are_refused_before_their_headers_are_read(tmp_path: Path) -> None:
    """Reading them takes ten times as long as refusing them, and 24 connections can ask for it without a pause."""
    bundle = null_bundle(tmp_path / "null.bundle", preprocessing=Preprocessing(224, 224))
    with serving(bundle.folder, "--max-body", 1 << 20, "--max-held", 40 << 20) as server:
        for count, status, words in ((256, 503, "would hold 38535168 bytes"), (2, 400, "not a complete JPEG, PNG, ")):
            broken = {"name": "image", "datatype": "BYTES", "shape": [count], "data": ["eA=="] * count}
            found, _, body = server.ask("POST", INFER, json.dumps({"inputs": [broken]}).encode())
            assert (found, words in body.decode()) == (status, True)
