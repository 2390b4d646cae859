"""What a hostile gRPC client may do, and what of it others notice: memory, floods, paths, connections."""

import socket
import time
import zlib
from collections.abc import Iterator

import pytest

from deploy.runtime.grpc.frames import (
    CANCEL,
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    PROTOCOL_ERROR,
    SETTINGS,
    encode_field,
    frame,
    reset_frame,
)
from tests.bundles import null_bundle
from tests.deploy.runtime.grpc.http2 import CALL, SERVICE_PATH, Http2Client, Reply, grpc_port, infer_request
from tests.deploy.runtime.server import PATIENCE_S, Running, serving

TOKEN = "a-token-of-sixteen-letters"
OTHERS = "127.0.0.2"


@pytest.fixture(scope="module")
def secured_grpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("tokens")
    tokens = folder / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    with serving(null_bundle(folder / "null.bundle").folder, "--grpc-port", 0, "--token-file", tokens) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Room for little: a message counts three times."""
    flags = ("--grpc-port", 0, "--max-held", 4_000_000, "--max-body", 1_000_000, "--connections", 8)
    bundle = null_bundle(tmp_path_factory.mktemp("narrow") / "null.bundle")
    with serving(bundle.folder, *flags, "--sender-timeout", 2) as running:
        yield running
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]


def client_metrics(server: Running) -> str:
    return server.ask("GET", "/metrics", Authorization=f"Bearer {TOKEN}")[2].decode()


def wait_for_reserved(server: Running, size: int) -> None:
    limit = time.monotonic() + PATIENCE_S
    while f"edge_memory_reserved_bytes {size}" not in client_metrics(server):
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    bundle = null_bundle(tmp_path_factory.mktemp("grpc") / "null.bundle")
    with serving(bundle.folder, "--grpc-port", 0) as running:
        yield running
        assert running.stop() == 0
        assert not [line for line in running.lines if line["event"] in ("unexpected", "plain", "fault")]


def test_a_path_that_is_no_utf8_takes_the_server_from_nobody(speaking: Running) -> None:
    """Only its own call is answered with an error; what runs meanwhile on another connection is answered."""
    before = len(speaking.lines)
    with Http2Client(grpc_port(speaking)) as kept:
        for path in (b"/x\xff", b"\xff", b"/\xff", b"", b"/inference.GRPCInferenceService/ModelInfer\xff"):
            with Http2Client(grpc_port(speaking)) as client:
                assert client.call(path, b"").status == "12", "UNIMPLEMENTED"
            assert kept.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0"
    assert speaking.lines[before:] == []


def test_a_call_without_a_token_is_refused_before_its_message_is_taken(secured_grpc: Running) -> None:
    """Of 60 MB, no more than the window may be on its way, and none of it is held."""
    with Http2Client(grpc_port(secured_grpc)) as client:
        stream = client.send_head(f"{SERVICE_PATH}/ModelInfer".encode())
        client.send_data(stream, b"\0" + (60 << 20).to_bytes(4, "big") + bytes(500_000))
        reply = client.reply(stream)
        assert reply.status == "16", "UNAUTHENTICATED"
        assert reply.was_reset, "the client is told to stop sending"
        metrics = client_metrics(secured_grpc)
        assert "edge_memory_reserved_bytes 0" in metrics
        assert client.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0", "health is open to everyone"


def test_messages_that_would_fill_the_memory_are_refused_and_others_answered(narrow: Running) -> None:
    """Each message is as large as one may be; what arrives of all of them counts, three times, with HTTP's bodies."""
    with Http2Client(grpc_port(narrow)) as client, Http2Client(grpc_port(narrow), OTHERS) as other:
        streams = [client.send_head(f"{SERVICE_PATH}/ModelInfer".encode()) for _ in range(4)]
        for stream in streams:
            client.send_data(stream, b"\0" + (900_000).to_bytes(4, "big") + bytes(300_000))
        replies = [client.reply(stream, wait_s=0.5) for stream in streams]
        refused = [reply for reply in replies if reply.status]
        assert {reply.status for reply in refused} == {"14"}, "UNAVAILABLE"
        assert "the requests of this client would hold" in refused[0].message
        assert 1 <= len(refused) < 4, "what is there for one client is used"
        assert other.call(f"{SERVICE_PATH}/ModelInfer".encode(), infer_request()).status == "0"
    wait_for_reserved(narrow, 0)


def test_a_message_that_does_not_arrive_is_given_up(narrow: Running) -> None:
    with Http2Client(grpc_port(narrow)) as client:
        stream = client.send_head(f"{SERVICE_PATH}/ModelInfer".encode())
        client.send_data(stream, b"\0" + (900_000).to_bytes(4, "big") + b"x")
        reply = client.reply(stream)
        assert (reply.status, reply.message) == ("4", "less than 65536 bytes of the message a second for 2 s")


def test_connections_that_make_no_call_shut_nobody_out(narrow: Running) -> None:
    """They are counted with HTTP's: 8 in all, 4 from an address."""
    with Http2Client(grpc_port(narrow)) as polite:
        assert polite.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0"
        held = [socket.create_connection(("127.0.0.1", grpc_port(narrow)), PATIENCE_S) for _ in range(20)]
        try:
            for connection in held[-3:]:
                connection.sendall(b"P")
            with Http2Client(grpc_port(narrow)) as late:
                assert late.call(f"{SERVICE_PATH}/ModelInfer".encode(), infer_request()).status == "0"
            assert narrow.ask("GET", "/v2/health/ready")[0] == 200
            assert polite.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0"
        finally:
            for connection in held:
                connection.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_messages_are_read_and_bombs_refused(speaking: Running, encoding: str) -> None:
    bits = {"gzip": 31, "deflate": 15}[encoding]

    def compress(content: bytes) -> bytes:
        packer = zlib.compressobj(9, wbits=bits)
        return packer.compress(content) + packer.flush()

    def call(content: bytes) -> Reply:
        return client.call(path, content, {b"grpc-encoding": encoding.encode()}, compressed=True)

    path = f"{SERVICE_PATH}/ModelInfer".encode()
    with Http2Client(grpc_port(speaking)) as client:
        assert call(compress(infer_request())).status == "0"
        bomb = call(compress(bytes(80 << 20)))
        assert (bomb.status, bomb.message.split(",")[0]) == ("8", f"expected at most {64 << 20} bytes once unpacked")
        assert call(b"not compressed").status == "3"
        wrong = client.call(path, b"", {b"grpc-encoding": b"snappy"})
        assert (wrong.status, wrong.message) == ("12", "the only encodings here are identity, gzip and deflate")


def test_a_connection_that_only_costs_work_is_ended(speaking: Running) -> None:
    """Calls that are cancelled at once, pings, settings: HTTP/2's floods."""
    path = f"{SERVICE_PATH}/ModelInfer".encode()
    block = b"".join(encode_field(*field) for field in (CALL | {b":path": path}).items())
    cancelled = b"".join(
        frame(HEADERS, END_HEADERS, number, block) + frame(DATA, 0, number, b"x") + reset_frame(number, CANCEL)
        for number in range(3, 503, 2)
    )
    unknown = b"".join(encode_field(*field) for field in (CALL | {b":path": b"/x"}).items())
    refused = frame(HEADERS, END_HEADERS, 3, unknown) + frame(DATA, 0, 3, b"x") * 2100  # answered; its letters go on
    others = (frame(PING, 0, 0, bytes(8)), frame(SETTINGS, 0, 0), frame(DATA, 0, 1))
    for flood in (cancelled, refused, *(one * 2100 for one in others)):
        with Http2Client(grpc_port(speaking)) as client:
            client.send_head(f"{SERVICE_PATH}/ModelStreamInfer".encode())
            client.send(flood)
            assert client.goaway() in (ENHANCE_YOUR_CALM, PROTOCOL_ERROR)
    with Http2Client(grpc_port(speaking)) as client:
        assert client.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0"


def test_a_head_that_cannot_be_decoded_or_grows_without_end_ends_its_connection_only(speaking: Running) -> None:
    bomb = b"\x40\x01a\x7f\xd1\x0e" + bytes(2000), b"\xbe" * 8000  # 2 kB enter the table; then 8,000 times that
    parts = frame(HEADERS, 0, 1, b"\0" * 5000) + frame(9, 0, 1, b"\0" * 5000)
    for content, code in (
        (frame(HEADERS, END_HEADERS, 1, bomb[0]) + frame(HEADERS, END_HEADERS, 3, bomb[1]), COMPRESSION_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
        (parts, ENHANCE_YOUR_CALM),
        (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    ):
        with Http2Client(grpc_port(speaking)) as client:
            client.send(content)
            assert client.goaway() == code
    with Http2Client(grpc_port(speaking)) as client:
        assert client.call(f"{SERVICE_PATH}/ServerLive".encode(), b"").status == "0"
