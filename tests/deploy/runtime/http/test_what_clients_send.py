"""Images, compressed bodies and targets as clients send them, on real sockets: all are answered alike."""

import base64
import gzip
import http.client
import json
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tests.deploy.runtime.decoding.files import encode, noise
from tests.deploy.runtime.server import CAT, INFER, Running, answer, request

JPEG = encode(noise(30, 20), "JPEG")
BEST = {"label": "cat", "index": 0, "probability": 0.25}
JSON = json.dumps({"inputs": [CAT]}).encode()


def best_of(body: bytes) -> object:
    return json.loads(body)["top_k"][0][0]


def curl_answers(server: Running, *arguments: str) -> str:
    url = f"http://127.0.0.1:{server.port}{INFER}"
    return subprocess.run(
        ["curl", "-sS", *arguments, url], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_curl_is_answered_in_all_of_its_usual_ways(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(JPEG)
    text = tmp_path / "x.json"
    text.write_text(json.dumps({"inputs": [_as_json(base64.b64encode(JPEG).decode())]}))
    for arguments in (
        ("-F", f"file=@{file}"),
        ("-F", "note=hello", "-F", f"upload=@{file};type=application/octet-stream"),
        ("--data-binary", f"@{file}"),
        ("--data-binary", f"@{file}", "-H", "Content-Type: application/octet-stream"),
        ("--data-binary", f"@{file}", "-H", "Content-Type: Image/JPEG"),
        ("--data-binary", f"@{file}", "-H", "Content-Type:"),
        ("--data-binary", f"@{file}", "-H", "Transfer-Encoding: chunked"),
        ("-X", "POST", "-T", str(file)),
        ("-d", f"@{text}"),
        ("--compressed", "-d", f"@{text}"),
    ):
        assert best_of(curl_answers(server, *arguments).encode()) == BEST, arguments


def test_python_requests_and_http_client_are_answered_alike(server: Running) -> None:
    url = f"http://127.0.0.1:{server.port}{INFER}"
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        image = encode(noise(30, 20), kind)
        sent = [
            requests.post(url, files={"file": image}, timeout=60),
            requests.post(url, files=[("a", ("a.bin", image))], data={"note": "x"}, timeout=60),
            requests.post(url, data=image, timeout=60),
            requests.post(url, json={"inputs": [_as_json(base64.b64encode(image).decode())]}, timeout=60),
        ]
        assert [best_of(reply.content) for reply in sent] == [BEST] * 4, kind
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", INFER, image)
        assert best_of(connection.getresponse().read()) == BEST
        connection.close()


def test_several_files_of_a_form_are_a_batch_with_its_best_classes(server: Running) -> None:
    reply = requests.post(
        f"http://127.0.0.1:{server.port}{INFER}",
        files=[("file", JPEG), ("file", encode(noise(8, 9), "PNG"))],
        timeout=60,
    ).json()
    assert (reply["outputs"][0]["shape"], len(reply["top_k"])) == ([2, 4], 2)
    assert (
        requests.post(
            f"http://127.0.0.1:{server.port}{INFER}", files=[("file", JPEG), ("file", b"no image")], timeout=60
        )
        .json()["error"]
        .startswith("not a complete JPEG, PNG, WebP, GIF, BMP or TIFF image (unknown format)")
    )


def _as_json(*images: str) -> dict[str, object]:
    return {"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": images}


def test_base64_is_taken_as_encoders_write_it(server: Running) -> None:
    plain = base64.b64encode(JPEG).decode()
    forms = {
        "in lines": base64.encodebytes(JPEG).decode(),
        "in lines as mail has them": base64.encodebytes(JPEG).decode().replace("\n", "\r\n"),
        "safe in URLs": base64.urlsafe_b64encode(JPEG).decode(),
        "unpadded": plain.rstrip("="),
        "a data URI": f"data:image/jpeg;base64,{plain}",
    }
    assert base64.urlsafe_b64encode(JPEG).decode() != plain
    for name, text in forms.items():
        status, body = server.infer(_as_json(text))
        assert (status, body["top_k"][0][0]) == (200, BEST), name
    for text in ("!", "data:image/jpeg", "A", "ä", f"{plain}="[:-3] + "=A=="):
        status, body = server.infer(_as_json(text))
        assert status == 400, text


def test_an_answer_names_as_many_classes_as_a_request_asks_for(server: Running) -> None:
    text = base64.b64encode(JPEG).decode()
    assert [len(best) for best in server.infer(_as_json(text, text))[1]["top_k"]] == [4, 4]  # all there are
    assert [len(best) for best in server.infer(_as_json(text), parameters={"top_k": 2})[1]["top_k"]] == [2]
    assert "top_k" not in server.infer(_as_json(text), parameters={"top_k": 0})[1]
    assert "top_k" not in server.infer(CAT)[1]
    assert server.infer(CAT, parameters={"top_k": 1})[1]["top_k"] == [[BEST]]
    status, body = server.infer(CAT, parameters={"top_k": -1})
    assert (status, body["error"]) == (400, "parameter 'top_k': expected a whole number, got -1")


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)]
)
def test_compressed_bodies_of_every_kind_are_read(server: Running, coding: str, pack: object) -> None:
    assert callable(pack)
    raw = bytes(2 * 192)
    for body, headers in (
        (JSON, {}),
        (JPEG, {}),
        (raw, {"Inference_Header_Content_Length": "0"}),
        (bytes(32 * 192), {"Inference_Header_Content_Length": "0"}),
    ):
        plain = server.ask("POST", INFER, body, **headers)
        packed = server.ask("POST", INFER, pack(body), Content_Encoding=coding, **headers)
        assert (plain[0], packed[0]) == (200, 200)
        assert _outputs(plain) == _outputs(packed)


def _outputs(reply: tuple[int, Mapping[str, str], bytes]) -> object:
    length = reply[1].get("inference-header-content-length")
    return json.loads(reply[2] if length is None else reply[2][: int(length)])["outputs"]


def test_a_bomb_is_refused_and_another_coding_named(server: Running) -> None:
    """The fixture's --max-body is a megabyte; what the bomb held of the budget is given back."""
    status, _, body = server.ask("POST", INFER, zlib.compress(bytes(64 << 20), 9), Content_Encoding="deflate")
    assert (status, json.loads(body)["error"]) == (
        413,
        "expected at most 1048576 bytes once unpacked, got more; send less",
    )
    status, headers, body = server.ask("POST", INFER, JSON, Content_Encoding="br")
    assert (status, headers["accept-encoding"]) == (415, "gzip, deflate")
    status, _, body = server.ask("POST", INFER, gzip.compress(JSON)[:-9], Content_Encoding="gzip")
    assert (status, json.loads(body)["error"]) == (400, "the body's gzip ends too early")
    assert b"edge_memory_reserved_bytes 0.0" in server.ask("GET", "/metrics")[2]


def test_a_long_reply_is_compressed_where_its_client_asks(server: Running) -> None:
    body = json.dumps({"inputs": [{**CAT, "shape": [32, 8, 8, 3], "data": [7] * 192 * 32}] * 1, "id": "x" * 9000})
    plain = server.ask("POST", INFER, body.encode())
    status, headers, packed = server.ask("POST", INFER, body.encode(), Accept_Encoding="gzip, deflate")
    assert (status, headers["content-encoding"], headers["vary"]) == (200, "gzip", "Accept-Encoding")
    assert gzip.decompress(packed) == plain[2]
    assert "content-encoding" not in plain[1]
    assert "content-encoding" not in server.ask("POST", INFER, JSON, Accept_Encoding="gzip")[1]


def test_absolute_targets_are_paths(server: Running) -> None:
    for target, status in (
        ("http://any.host/v2", 200),
        ("HTTPS://any.host:1/v2?x=http://y/z", 200),
        ("http://any.host", 200),
        ("http://any.host?x", 200),
        ("http://[::1]:8080/v2", 200),
        (f"http://any.host{INFER}", 405),
        ("http://any.host/nothing", 404),
        ("http://user@any.host/v2", 400),
        ("http:///v2", 400),
        ("ftp://any.host/v2", 400),
    ):
        assert server.ask("GET", target)[0] == status, target
    assert server.ask("POST", f"http://any.host{INFER}", JSON)[0] == 200


def test_two_hosts_are_refused(server: Running) -> None:
    with server.connect() as connection:
        connection.sendall(request("GET", "/v2").replace(b"Host: test", b"Host: test\r\nHost: other"))
        status, _, body = answer(connection)
    assert (status, json.loads(body)["error"].split(";")[0]) == (400, "more than one Host")


def test_the_repository_has_one_model_that_stays(server: Running) -> None:
    wanted = [{"name": "null", "version": "1", "state": "READY", "reason": ""}]
    for body in (b"", b"{}", b'{"ready": true}'):
        status, _, found = server.ask("POST", "/v2/repository/index", body)
        assert (status, json.loads(found)) == (200, wanted)
    assert server.ask("POST", "/v2/repository/index", b"[")[0] == 400
    assert server.ask("GET", "/v2/repository/index")[0] == 405
    for verb in ("load", "unload"):
        status, _, found = server.ask("POST", f"/v2/repository/models/null/{verb}", b"{}")
        assert (status, json.loads(found)["error"].split(";")[0]) == (
            400,
            "this server has 'null' for as long as it runs and neither loads nor unloads models",
        )
    assert server.ask("POST", "/v2/repository/models/null/other")[0] == 404
    for path in ("/v2/logging", "/v2/trace/setting", "/v2/models/null/trace/setting"):
        status, _, found = server.ask("GET", path)
        assert (status, "set where the server starts" in json.loads(found)["error"]) == (400, True)
