"""The load generator's protocols, byte by byte; the bytes of a server come from the test."""

import json
import socket
import struct
import threading
from pathlib import Path

import pytest

from benchmarks.serving.clients.http1 import Http1, request
from benchmarks.serving.clients.http2 import (  # fmt: skip
    ACK,
    DATA,
    END_STREAM,
    HEAD,
    HEADERS,
    INITIAL_WINDOW,
    OPENING,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Http2,
    frame,
)
from benchmarks.serving.clients.infer_message import RAW_OUTPUTS, field, fields, infer_request, raw_output
from benchmarks.serving.load import Ask, Target, is_answered, run_slice


def fed(protocol: Http1 | Http2, *parts: bytes) -> list[bool]:
    received = []
    for part in parts:
        protocol.room()[: len(part)] = part
        received.append(protocol.took(len(part)))
    return received


def frames(sent: bytes) -> list[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, content)"""
    received = []
    while sent:
        size = int.from_bytes(sent[:3], "big")
        received.append((*struct.unpack_from(">BBI", sent, 3), sent[HEAD : HEAD + size]))
        sent = sent[HEAD + size :]
    return received


def test_a_reply_is_complete_once_its_content_length_has_arrived() -> None:
    client = Http1(b"x")
    assert fed(client, b"HTTP/1.1 200 OK\r\nContent-", b"Length: 5\r\n\r\nab", b"cde") == [False, False, True]
    assert client.reply() == b"abcde"


def test_a_chunked_reply_is_complete_with_its_last_chunk() -> None:
    client = Http1(b"x")
    parts = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"
    assert fed(client, *parts) == [False, False, True]
    assert client.reply() == b"abcde"


def test_a_reply_other_than_200_is_an_error_that_quotes_it() -> None:
    with pytest.raises(RuntimeError, match="503 Busy"):
        fed(Http1(b"x"), b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


def test_a_call_respects_http2_flow_control() -> None:
    call = Http2(bytes(100_000))
    call.begin()
    opening, sent = bytes(call.ready[: len(OPENING)]), bytes(call.ready[len(OPENING) :])
    assert opening == OPENING
    assert sum(len(content) for kind, *_, content in frames(sent) if kind == DATA) == WINDOW
    call.ready = memoryview(b"")
    fed(call, frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
    assert not call.ready
    fed(call, frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 1 << 20)))
    settled, *rest = frames(bytes(call.ready))
    assert settled[:2] == (SETTINGS, ACK)
    assert sum(len(content) for *_, content in rest) == 100_005 - WINDOW
    assert [flags for _, flags, *_ in rest] == [0, 0, END_STREAM]


def test_a_call_completes_with_its_last_frame_and_pings_are_answered_meanwhile() -> None:
    call = Http2(b"question")
    call.begin()
    call.ready = memoryview(b"")
    answer = frame(HEADERS, 4, 1, b"?") + frame(DATA, 0, 1, b"\0\0\0\0\6answer") + frame(PING, 0, 0, b"12345678")
    trailers = frame(HEADERS, 5, 1, b"?")
    assert fed(call, answer[:20], answer[20:], trailers) == [False, False, True]
    assert call.reply() == b"answer"
    assert frames(bytes(call.ready)) == [(PING, ACK, 0, b"12345678")]


@pytest.mark.parametrize("content", [frame(RST_STREAM, 0, 1, bytes(4)), frame(HEADERS, 5, 1, b"?")])
def test_a_failed_call_is_an_error(content: bytes) -> None:
    call = Http2(b"question")
    call.begin()
    with pytest.raises(RuntimeError):
        fed(call, content)


def test_a_message_survives_encoding_and_decoding() -> None:
    raw = bytes(range(256)) * 2
    message = infer_request("net", "image", (1, 8, 300, 3), "logits", raw)
    assert [number for number, _ in fields(message)] == [1, 5, 6, 7]
    assert dict(fields(message))[7] == raw
    assert raw_output(field(1, b"net") + field(RAW_OUTPUTS, raw)) == raw


def test_a_slice_counts_its_own_answers_and_leaves_no_request_in_flight(tmp_path: Path) -> None:
    body = json.dumps({"ok": True}).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    content = request("POST", "/", b"12345")
    answered: list[bytes] = []

    def answer(client: socket.socket) -> None:
        with client:
            while client.recv(len(content), socket.MSG_WAITALL):
                answered.append(reply)
                client.sendall(reply)

    def accept(listening: socket.socket) -> None:
        for _ in range(3):
            threading.Thread(target=answer, args=(listening.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, args=(listening,))
        accepting.start()
        place = tmp_path / "request"
        place.write_bytes(content)
        target = Target(f"127.0.0.1:{listening.getsockname()[1]}", (str(place),))
        received = run_slice(Ask(target, 0.05, 2))
        assert is_answered(target)
        accepting.join()
    assert received.requests == len(answered) - 1
    assert 0 < len(received.latencies_ms) < received.requests
