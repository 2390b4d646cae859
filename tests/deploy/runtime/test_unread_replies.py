"""Clients that ask for much and read nothing of it, over HTTP and gRPC: their replies count like what clients send."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from benchmarks.serving.clients.infer_message import infer_request
from deploy.runtime.grpc import frames
from deploy.runtime.grpc.frames import frame
from tests.bundles import null_bundle
from tests.deploy.runtime.grpc.http2 import SERVICE_PATH, Http2Client, grpc_port
from tests.deploy.runtime.server import INFER, PATIENCE_S, Running, request, serving

ROWS, LABELS, MAX_HELD = 64, 20_000, 16_000_000
IMAGES = bytes(ROWS * 192)
REPLY_BYTES = ROWS * LABELS * 4  # 5 MB for 12 kB


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("large") / "null.bundle", labels=tuple(map(str, range(LABELS))))
    with serving(bundle.folder, "--grpc-port", 0, "--max-held", MAX_HELD, "--sender-timeout", 2) as running:
        yield running
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]


def reserved_bytes(server: Running) -> float:
    metrics = server.ask("GET", "/metrics")[2].decode().splitlines()
    return float(next(line.split()[1] for line in metrics if line.startswith("edge_memory_reserved_bytes ")))


def wait_until_free(server: Running) -> None:
    limit = time.monotonic() + PATIENCE_S
    while reserved_bytes(server):
        assert time.monotonic() < limit
        time.sleep(0.1)


def ask_and_not_read(server: Running) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", server.port))
    head = request("POST", INFER, IMAGES).replace(b"\r\n\r\n", b"\r\nInference-Header-Content-Length: 0\r\n\r\n", 1)
    connection.sendall(head)
    return connection


def test_replies_that_nobody_reads_are_held_within_the_budget(talkative: Running) -> None:
    silent = [ask_and_not_read(talkative) for _ in range(6)]
    limit = time.monotonic() + PATIENCE_S
    while (held := reserved_bytes(talkative)) < REPLY_BYTES:
        assert time.monotonic() < limit
    assert held <= MAX_HELD / 2, "one address's share"
    starts = [connection.recv(12) for connection in silent]
    assert set(starts) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    for connection in silent:
        connection.close()
    wait_until_free(talkative)
    with ask_and_not_read(talkative) as reader:
        received = 0
        while received < REPLY_BYTES:
            received += len(reader.recv(1 << 20))
    wait_until_free(talkative)


def test_replies_over_grpc_that_nobody_reads_are_held_within_the_budget_and_given_up(talkative: Running) -> None:
    message = infer_request("null", "image", (ROWS, 8, 8, 3), "logits", IMAGES)
    path = f"{SERVICE_PATH}/ModelInfer".encode()
    with Http2Client(grpc_port(talkative)) as client:
        client.send(frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 0)))
        streams = [client.send_call(path, message) for _ in range(4)]
        limit = time.monotonic() + PATIENCE_S
        while not (held := reserved_bytes(talkative)) >= REPLY_BYTES:
            assert time.monotonic() < limit
        assert held <= MAX_HELD / 2
        assert all(client.reply(stream).was_reset for stream in streams), "two for want of room, two after 2 s"
    wait_until_free(talkative)
    with Http2Client(grpc_port(talkative)) as client:
        assert len(client.call(path, message).content) > REPLY_BYTES
