"""The Open Inference Protocol v2 as its own client speaks it, and pictures."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tests.deploy.runtime.server import CAT, INFER, Running

# In a process of its own: gevent patches what the others in this process rely on.
TRITON = """
import sys
import numpy as np
import tritonclient.http as http

client = http.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("null")
assert client.is_model_ready("null", "1")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
model = client.get_model_metadata("null")
assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}], model
config = client.get_model_config("null")
assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [8, 8, 3]}], config
assert config["max_batch_size"] == 32

for binary_in in (True, False):
    for binary_out in (True, False):
        feed = http.InferInput("image", [3, 8, 8, 3], "UINT8")
        feed.set_data_from_numpy(np.full((3, 8, 8, 3), 9, np.uint8), binary_data=binary_in)
        wanted = http.InferRequestedOutput("logits", binary_data=binary_out)
        result = client.infer("null", [feed], outputs=[wanted], request_id="r7", timeout=5_000_000)
        assert result.as_numpy("logits").tolist() == [[0.0] * 4] * 3
        assert result.get_response()["id"] == "r7"
        classes = http.InferRequestedOutput("logits", binary_data=binary_out, class_count=2)
        found = client.infer("null", [feed], outputs=[classes], model_version="1").as_numpy("logits")
        texts = [[text.decode() if isinstance(text, bytes) else str(text) for text in row] for row in found]
        assert texts == [["0.000000:0:cat", "0.000000:1:dog"]] * 3, found
pictures = http.InferInput("image", [2], "BYTES")
pictures.set_data_from_numpy(np.array([open(sys.argv[2], "rb").read()] * 2, np.object_))
assert client.infer("null", [pictures]).as_numpy("logits").shape == (2, 4)
floats = http.InferInput("image", [2, 3, 8, 8], "FP32")
floats.set_data_from_numpy(np.full((2, 3, 8, 8), 0.25, np.float32))
assert client.infer("null", [floats]).as_numpy("logits").shape == (2, 4)
packed = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
for coding in (packed, {"request_compression_algorithm": "deflate", "response_compression_algorithm": "gzip"}):
    feed = http.InferInput("image", [32, 8, 8, 3], "UINT8")
    feed.set_data_from_numpy(np.zeros((32, 8, 8, 3), np.uint8))
    assert client.infer("null", [feed], request_id="x" * 9000, **coding).as_numpy("logits").shape == (32, 4)
assert client.get_model_repository_index() == [{"name": "null", "version": "1", "state": "READY", "reason": ""}]
for change in (client.load_model, client.unload_model):
    try:
        change("null")
    except http.InferenceServerException as error:
        assert error.status() == "400" and "neither loads nor unloads models" in error.message(), error
    else:
        raise AssertionError("not refused")
try:
    feed = http.InferInput("image", [1, 8, 8, 3], "FP32")
    feed.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.float32))
    client.infer("null", [feed])
except http.InferenceServerException as error:
    assert "expected uint8 [N, 8, 8, 3], got float32 [1, 8, 8, 3]" in str(error), error
else:
    raise AssertionError("not refused")
"""


def picture(kind: str = "JPEG", size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def test_tritonclient_works_unchanged(server: Running, tmp_path: Path) -> None:
    path = tmp_path / "grey.jpg"
    path.write_bytes(picture())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRITON, f"127.0.0.1:{server.port}", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_picture_gets_logits_and_five_best_labels(server: Running) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        status, _, body = server.ask("POST", INFER, picture(kind), Content_Type=f"image/{kind.lower()}")
        found = json.loads(body)
        assert status == 200
        assert found["top_k"][0][0] == {"label": "cat", "index": 0, "probability": 0.25}
        assert found["outputs"][0]["data"] == [0.0] * 4
        assert set(found["times_ms"]) == {"decode", "queue", "infer"}


def test_what_is_no_picture_is_refused(server: Running) -> None:
    for content in (b"", b"GIF89a", picture()[:200]):
        status, _, body = server.ask("POST", INFER, content, Content_Type="image/jpeg")
        assert status == 400
        assert "image" in json.loads(body)["error"]


def test_what_pillow_wonders_about_leaves_no_line_in_the_log(server: Running) -> None:
    turned, buffer, before = Image.Exif(), BytesIO(), len(server.lines)
    turned[0x0112] = 6
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG", exif=turned)
    tag = bytes.fromhex("0112 0003 00000001")
    assert tag in buffer.getvalue()
    longer = buffer.getvalue().replace(tag, bytes.fromhex("0112 0003 7d000001"))
    status, _, _ = server.ask("POST", INFER, longer, Content_Type="image/jpeg")
    assert (status, server.lines[before:]) == (200, [])


def test_what_libtiff_stumbles_over_leaves_no_line_in_the_log(server: Running) -> None:
    before, noise = len(server.lines), Image.effect_noise((40, 40), 90)
    for way in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        buffer = BytesIO()
        noise.save(buffer, "TIFF", compression=way)
        content = bytearray(buffer.getvalue())
        content[200:300] = bytes(range(100))
        assert server.ask("POST", INFER, bytes(content))[0] in (200, 400), way
    assert server.ask("POST", INFER, picture("TIFF"))[0] == 200
    assert server.lines[before:] == []


def test_a_raw_body_is_answered_in_binary(server: Running) -> None:
    status, headers, body = server.ask("POST", INFER, bytes(2 * 192), Inference_Header_Content_Length="0")
    length = int(headers["inference-header-content-length"])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert json.loads(body[:length])["outputs"][0]["shape"] == [2, 4]
    assert body[length:] == bytes(2 * 4 * 4)


def test_a_wrong_tensor_gets_its_sentence_and_a_large_batch_its_limit(server: Running) -> None:
    status, body = server.infer({**CAT, "datatype": "FP32"})
    assert (status, body["error"]) == (400, "input 'image': expected uint8 [N, 8, 8, 3], got float32 [1, 8, 8, 3]")
    status, body = server.infer({**CAT, "shape": [33, 8, 8, 3], "data": [0] * 33 * 192})
    assert (status, body["error"]) == (400, "input 'image': expected a batch of 1 to 32, got 33")
    status, _, _ = server.ask("POST", INFER, b"x", Content_Encoding="br")
    assert status == 415
    status, _, _ = server.ask("POST", INFER, b"x", Inference_Header_Content_Length="-1")
    assert status == 400


def test_metrics_tell_what_happened_in_prometheus_text(server: Running) -> None:
    server.infer(CAT)
    _, headers, body = server.ask("GET", "/metrics")
    text = body.decode()
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples['edge_requests_total{code="200",endpoint="infer",protocol="http"}']) >= 1
    assert samples["edge_ready"] == "1.0"
    assert samples['edge_check_passed{check="golden distance"}'] == "1.0"
    assert float(samples["process_resident_memory_bytes"]) > 1e7
    counts = [float(samples[f'edge_stage_seconds_count{{stage="{stage}"}}']) for stage in ("queue", "infer", "encode")]
    assert len(set(counts)) == 1
    assert float(samples['edge_stage_seconds_bucket{le="+Inf",stage="infer"}']) == counts[0]
    assert all(text.count(f"# TYPE {line.split()[2]} ") == 1 for line in text.splitlines() if line.startswith("# TYPE"))
