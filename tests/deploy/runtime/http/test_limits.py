"""What clients may cost all together, on a real server with small limits."""

import json
from collections.abc import Iterator

import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.server import CAT, INFER, Running, answer, request, serving

BODY = json.dumps({"inputs": [CAT]}).encode()
LARGE = 600_000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("small") / "null.bundle")
    with serving(bundle.folder, "--max-body", 1_000_000, "--max-held", 1_000_000, "--connections", 4) as running:
        yield running


def test_an_idle_connection_makes_way_for_a_new_one(small: Running) -> None:
    held = [small.connect() for _ in range(4)]
    try:
        assert small.ask("POST", INFER, BODY)[0] == 200
        assert sum(connection.recv(1) == b"" for connection in held[:1]) == 1
    finally:
        for connection in held:
            connection.close()


def test_connections_in_use_are_kept_and_the_next_is_told(small: Running) -> None:
    held = [small.connect() for _ in range(4)]
    try:
        for connection in held:
            connection.sendall(request("POST", INFER, Content_Length="10", Expect="100-continue"))
            assert answer(connection)[0] == 100
        with small.connect() as late:
            status, _, body = answer(late)
        assert (status, json.loads(body)["error"]) == (503, "more than 4 connections; try later")
    finally:
        for connection in held:
            connection.close()


def test_bodies_that_would_fill_the_memory_are_refused_and_small_ones_pass(small: Running) -> None:
    with small.connect() as first, small.connect() as second:
        first.sendall(request("POST", INFER, Content_Length=str(LARGE), Expect="100-continue"))
        assert answer(first)[0] == 100
        second.sendall(request("POST", INFER, Content_Length=str(LARGE)))
        status, _, body = answer(second)
        assert status == 503
        assert json.loads(body)["error"].startswith(
            "the bodies in flight would hold 1200000 bytes, the limit is 1000000"
        )
        assert small.ask("POST", INFER, BODY)[0] == 200
    with small.connect() as connection:
        chunks = b"".join(b"10000\r\n%s\r\n" % bytes(1 << 16) for _ in range(12))
        head = request("POST", INFER).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        connection.sendall(head + chunks + b"0\r\n\r\n")
        assert answer(connection)[0] == 400  # whole, and no JSON: what an answered body held is free again
    assert small.ask("POST", INFER, bytes(LARGE))[0] == 400
