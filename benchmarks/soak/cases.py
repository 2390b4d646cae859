"""Malformed requests over HTTP: heads, chunks, JSON, binary tensors, shared memory. Each from a seed; sends nothing."""

import json
from random import Random
from typing import Any, Literal, NamedTuple

from benchmarks.serving.clients.http1 import request
from benchmarks.soak.mutations import VALUES, encode_json, mutate_bytes, mutate_json

INFER = "/v2/models/null/infer"
LENGTH = "Inference-Header-Content-Length"
REGION = "/v2/systemsharedmemory"
FILE, FILE_BYTES = "edge-soak", 4096  # in /dev/shm, for the registered regions
Transport = Literal["kept", "alone", "grpc", "http2"]


class Case(NamedTuple):
    """transport: on a kept connection (`content` is framed correctly), or on its own, which is half-closed afterwards;
    as a gRPC method's message; or as bytes for the gRPC port."""

    transport: Transport
    content: bytes
    method: str = ""


def valid_request(rows: int = 1) -> dict[str, Any]:
    return {
        "id": "r1",
        "parameters": {"timings": True},
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [rows, 8, 8, 3], "data": [7] * 192 * rows}],
        "outputs": [{"name": "logits", "parameters": {"classification": 2}}],
    }


def json_case(chance: Random) -> Case:
    return Case(
        "kept",
        request("POST", INFER, encode_json(mutate_json(valid_request(chance.choice((1, 1, 3))), chance), chance)),
    )


def binary_case(chance: Random) -> Case:
    """Wrong in the JSON, in the header's length, or in the tensor's bytes."""
    body, raw = valid_request(), chance.randbytes(192)
    del body["inputs"][0]["data"]
    body["inputs"][0]["parameters"] = {"binary_data_size": len(raw)}
    body["outputs"][0]["parameters"] = {"binary_data": True}
    text = encode_json(mutate_json(body, chance), chance) if chance.random() < 0.6 else json.dumps(body).encode()
    sizes = (len(text), len(text), len(text), 0, len(text) - 1, len(text) + 1, 1 << 31, -1, "", "1e3", "9" * 5000, "٣")
    length = str(chance.choice(sizes)).encode().decode("latin-1")
    raw = chance.choice((raw, raw[:-1], raw + b"x", b"", raw * 40))
    fields = {LENGTH: length, "Content-Type": "application/octet-stream"}
    return Case("kept", _add_fields(request("POST", INFER, text + raw), fields))


def _add_fields(plain: bytes, fields: dict[str, str]) -> bytes:
    head, _, body = plain.partition(b"\r\n\r\n")
    more = "".join(f"\r\n{name}: {value}" for name, value in fields.items()).encode("latin-1")
    return head + more + b"\r\n\r\n" + body


PATHS = (
    *("/", "/v2", "/v2/health/ready", "/metrics", "/certificate", INFER, f"{INFER}/", "/v2/models/null/config"),
    *("/v2/models/null/versions/1/infer", "/v2/models/other/infer", "/v2/models/null/versions//infer", "/v2/models//"),
    *(
        "/v2/models/%2e%2e/infer",
        "/v2/models/%ff/infer",
        "/v2/models/null/versions/%00",
        "*",
        "http://x/v2",
        "//",
        "/%",
    ),
    *("/page.js", "/../page.js", "/page.js/..%2f..%2fserve.py", f"/{'a/' * 3000}", "/v2/models/null?x=%", "/v2\x00"),
    *("/v2/openapi.json", f"{REGION}/status", f"{REGION}/region/a%2fb/status", f"{REGION}/region//register"),
)
FIELDS = (
    *("Content-Length: -1", "Content-Length: 5, 5", "Content-Length: 99999999999999999999", "Content-Length: 0x10"),
    *("Content-Length: 900000", "Content-Length: 4", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked"),
    *("Transfer-Encoding: identity", "Transfer-Encoding : chunked", "Expect: 100-continue", "Connection: close"),
    *("Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket", "Host:", "Accept: text/html", "Range: bytes=0-1"),
    *(f"{LENGTH}: 0", f"{LENGTH}: 0\r\n{LENGTH}: 3", "Content-Encoding: gzip", "Content-Type: image/jpeg", ": empty"),
    *("If-None-Match: *", "Authorization: Bearer x", " folded: line", "X: \x01\x02", f"X: {'y' * 9000}", "no colon"),
)
METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "PRI", "get", "G\tT", "")
VERSIONS = ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "http/1.1", "")
CHUNKS = (
    *(
        b"4\r\nabcd\r\n",
        b"0\r\n\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"4;ext=1\r\nabcd\r\n",
    ),
    *(b"5\r\nabcd\r\n", b"3\r\nabcd\r\n", b"4\nabcd\n", b"\r\n", b";\r\n", b"4" + b";x" * 9000 + b"\r\n", b"0" * 9000),
)


def head_case(chance: Random) -> Case:
    """One or several requests in a row, with errors in the request line, the fields, the chunks or any byte."""
    requests = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 1, 2, 5))))
    return Case("alone", mutate_bytes(requests, chance, 2) if chance.random() < 0.3 else requests)


def _request(chance: Random) -> bytes:
    methods, versions = (METHODS, VERSIONS) if chance.random() < 0.3 else (METHODS[:4], VERSIONS[:1])
    line = f"{chance.choice(methods)} {chance.choice(PATHS)} {chance.choice(versions)}"
    fields = ["Host: soak", *chance.sample(FIELDS, chance.choice((0, 0, 1, 2, 3)))]
    body = b""
    if chance.random() < 0.4:
        fields.append("Transfer-Encoding: chunked")
        body = b"".join(chance.choices(CHUNKS, k=chance.randrange(5)))
    elif chance.random() < 0.5:
        body = encode_json(valid_request(), chance)
        fields.append(f"Content-Length: {len(body) + chance.choice((0, 0, 0, -1, 1, -len(body), 500))}")
    chance.shuffle(fields)
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1") + body


def region_case(chance: Random) -> Case:
    """Registering regions, and requests with regions that are registered or not."""
    name = chance.choice(("a", "a", "b", "", "%00", "%ff", "x" * 300, "a/b", "..", "a%20b"))
    if chance.random() < 0.5:
        verb = chance.choice(("register", "register", "register", "unregister", "status", "other", ""))
        body = {"key": f"/{FILE}", "offset": 0, "byte_size": FILE_BYTES}
        if chance.random() < 0.7:
            keys = ("/../etc/passwd", "/", "", "..", "/sub/dir", "\0", FILE, "/dev/null", *VALUES)
            body = mutate_json(body | {"key": chance.choice(keys)}, chance, 2)
        method = "GET" if verb == "status" else "POST"
        place = f"/region/{name}" if chance.random() < 0.9 else ""
        return Case("kept", request(method, f"{REGION}{place}/{verb}", encode_json(body, chance)))
    return Case("kept", request("POST", INFER, encode_json(mutate_json(_by_region(chance), chance, 2), chance)))


def _by_region(chance: Random) -> dict[str, Any]:
    sizes = (0, 16, 192, 192, FILE_BYTES, 1 << 62, -1)

    def place() -> dict[str, Any]:
        return {
            "shared_memory_region": chance.choice("aab"),
            "shared_memory_byte_size": chance.choice(sizes),
            "shared_memory_offset": chance.choice((0, 0, 0, 1, FILE_BYTES - 1, 1 << 63)),
        }

    body = valid_request()
    del body["inputs"][0]["data"]
    body["inputs"][0]["parameters"], body["outputs"][0]["parameters"] = place(), place()
    return body
