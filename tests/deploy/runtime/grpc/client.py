"""tritonclient's gRPC client against a server, as a program: grpcio has threads, which tests that fork do not like.

Arguments: address, a picture's file, and `shared` where system shared memory is offered. Asserts, and prints nothing.
"""

import json
import queue
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as client_of
from tritonclient.utils import shared_memory

ADDRESS, PICTURE, *MORE = sys.argv[1:]
client = client_of.InferenceServerClient(ADDRESS)


def image(rows: int = 1, value: int = 9) -> Any:
    feed = client_of.InferInput("image", [rows, 8, 8, 3], "UINT8")
    feed.set_data_from_numpy(np.full((rows, 8, 8, 3), value, np.uint8))
    return feed


def refused(*words: Any, **more: Any) -> tuple[str, str]:
    try:
        client.infer(*words, **more)
    except client_of.InferenceServerException as error:
        return str(error.status()), str(error.message())
    raise AssertionError("not refused")


def asks_about() -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("null")
    assert client.is_model_ready("null", "1")
    assert {"binary_tensor_data", "statistics"} <= set(client.get_server_metadata().extensions)
    model = client.get_model_metadata("null", as_json=True)
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": ["-1", "8", "8", "3"]}], model
    config = client.get_model_config("null", as_json=True)["config"]
    assert config["max_batch_size"] == 32, config
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": ["8", "8", "3"]}], config

    (indexed,) = client.get_model_repository_index(as_json=True)["models"]
    assert indexed == {"name": "null", "version": "1", "state": "READY"}, indexed
    for change in (client.load_model, client.unload_model):
        try:
            change("null")
        except client_of.InferenceServerException as error:
            assert error.status() == "StatusCode.UNIMPLEMENTED", error
            assert "neither loads nor unloads models" in error.message(), error
        else:
            raise AssertionError("not refused")


def infers() -> None:
    found = client.infer("null", [image(3)], request_id="r7", parameters={"timings": True})
    assert found.as_numpy("logits").tolist() == [[0.0] * 4] * 3
    told = found.get_response()
    assert told.id == "r7" and told.parameters["infer_ms"].double_param > 0
    classes = client_of.InferRequestedOutput("logits", class_count=2)
    rows = client.infer("null", [image()], outputs=[classes], model_version="1").as_numpy("logits")
    assert rows.tolist() == [[b"0.000000:0:cat", b"0.000000:1:dog"]], rows
    pictures = client_of.InferInput("image", [2], "BYTES")
    pictures.set_data_from_numpy(np.array([Path(PICTURE).read_bytes()] * 2, np.object_))
    assert client.infer("null", [pictures]).as_numpy("logits").shape == (2, 4)
    best = json.loads(client.infer("null", [pictures]).get_response().parameters["top_k"].string_param)
    assert [len(classes) for classes in best] == [4, 4]
    assert best[0][0] == {"label": "cat", "index": 0, "probability": 0.25}, best
    for coding in ("gzip", "deflate"):
        assert client.infer("null", [image(3)], compression_algorithm=coding).as_numpy("logits").shape == (3, 4)
    floats = client_of.InferInput("image", [1, 3, 8, 8], "FP32")
    floats.set_data_from_numpy(np.full((1, 3, 8, 8), 0.5, np.float32))
    assert client.infer("null", [floats]).as_numpy("logits").shape == (1, 4)


def infers_later() -> None:
    found: queue.Queue[Any] = queue.Queue()
    for _ in range(20):
        client.async_infer("null", [image()], lambda result, error: found.put(error or result))
    assert [found.get(timeout=60).as_numpy("logits").shape for _ in range(20)] == [(1, 4)] * 20


def streams() -> None:
    found: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    for number in range(40):
        client.async_stream_infer("null", [image(33 if number == 7 else 1)], request_id=str(number))
    answers = [found.get(timeout=60) for _ in range(40)]
    client.stop_stream()
    wrong = [number for number, (_, error) in enumerate(answers) if error]
    assert wrong == [7], answers
    told = [result.get_response().id for result, _ in answers if result]
    assert told == [str(number) for number in range(40) if number != 7], told


def is_refused() -> None:
    assert refused("nothing", [image()]) == (
        "StatusCode.NOT_FOUND",
        "no model 'nothing' here; this server has 'null'",
    )
    wrong = client_of.InferInput("image", [1, 2], "UINT8")
    wrong.set_data_from_numpy(np.zeros((1, 2), np.uint8))
    status, words = refused("null", [wrong])
    assert (status, words) == (
        "StatusCode.INVALID_ARGUMENT",
        "input 'image': expected uint8 [N, 8, 8, 3], got uint8 [1, 2]",
    )
    assert refused("null", [image(33)])[1] == "input 'image': expected a batch of 1 to 32, got 33"


def is_counted() -> None:
    (told,) = client.get_inference_statistics("null").model_stats
    assert told.inference_count > 60 and told.inference_stats.success.count > 60
    assert told.inference_stats.fail.count >= 3, told


def shares() -> None:
    size, out = 192, 16
    given = shared_memory.create_shared_memory_region("in", "/edge_test_in", size)
    taken = shared_memory.create_shared_memory_region("out", "/edge_test_out", out)
    try:
        shared_memory.set_shared_memory_region(given, [np.full((1, 8, 8, 3), 3, np.uint8)])
        client.register_system_shared_memory("in", "/edge_test_in", size)
        client.register_system_shared_memory("out", "/edge_test_out", out)
        assert sorted(client.get_system_shared_memory_status().regions) == ["in", "out"]
        feed, wanted = client_of.InferInput("image", [1, 8, 8, 3], "UINT8"), client_of.InferRequestedOutput("logits")
        feed.set_shared_memory("in", size)
        wanted.set_shared_memory("out", out)
        shared_memory.set_shared_memory_region(taken, [np.ones(4, np.float32)])
        client.infer("null", [feed], outputs=[wanted])
        assert shared_memory.get_contents_as_numpy(taken, np.float32, [4]).tolist() == [0.0] * 4
        client.unregister_system_shared_memory()
        assert not client.get_system_shared_memory_status().regions
        assert "no shared memory region 'in' is registered" in refused("null", [feed])[1]
    finally:
        shared_memory.destroy_shared_memory_region(given)
        shared_memory.destroy_shared_memory_region(taken)


for step in (asks_about, infers, infers_later, streams, is_refused, is_counted, *([shares] if MORE else [])):
    step()
client.close()
