"""The same JSON again: what it means is kept, and nothing that has to be looked at each time is."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.runtime.protocol.header_cache import MAX_HEADERS, HeaderCache
from deploy.runtime.protocol.requests import InferenceRequest, parse_body
from deploy.runtime.protocol.responses import encode_response
from deploy.runtime.protocol.shared_memory import RegionSlice, refuse_region
from toolchain.errors import RequestError
from toolchain.records.tensors import Preprocessing, TensorSpec

IMAGE = (TensorSpec("image", "uint8", (None, 2, 2, 1)),)
TWO = (TensorSpec("a", "uint8", (None, 2)), TensorSpec("b", "float32", (None, 1)))
LOGITS = (TensorSpec("logits", "float32", (None, 3)),)
PIXELS = Preprocessing(height=2, width=2, channels=1, mean=(0.0,), std=(1.0,))
REGION = {"shared_memory_region": "in", "shared_memory_byte_size": 4}


def tensor(**parameters: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "parameters": parameters}


def header(*tensors: dict[str, Any], **members: Any) -> bytes:
    return json.dumps({"inputs": list(tensors or (tensor(binary_data_size=4),)), **members}).encode()


def asked(repeats: HeaderCache, text: bytes, tail: bytes, read: Any = refuse_region) -> InferenceRequest:
    return repeats.parse(memoryview(bytearray(text + tail)), len(text), read)


def known(inputs: Any = IMAGE) -> HeaderCache:
    return HeaderCache(inputs, LOGITS, PIXELS)


def wholly(text: bytes, tail: bytes, inputs: Any = IMAGE) -> InferenceRequest:
    return parse_body(memoryview(bytearray(text + tail)), len(text), inputs, LOGITS, refuse_region, PIXELS)


MEMBERS: list[dict[str, Any]] = [
    {},
    {"id": "7", "parameters": {"timeout": 5000, "timings": True}},
    {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
    {"outputs": [{"name": "logits", "parameters": {"classification": 2}}]},
]


@pytest.mark.parametrize("members", MEMBERS)
def test_the_same_json_means_the_same_the_second_time_with_its_own_tensor(members: dict[str, Any]) -> None:
    repeats, text = known(), header(**members)
    for tail in (b"\1\2\3\4", b"\5\6\7\0", b"\1\2\3\4"):
        found, whole = asked(repeats, text, tail), wholly(text, tail)
        assert found.feeds["image"].tobytes() == tail
        assert found.feeds["image"].shape == whole.feeds["image"].shape
        assert (found.outputs, found.id, found.timeout_us, found.timings) == (
            whole.outputs,
            whole.id,
            whole.timeout_us,
            whole.timings,
        )


def test_several_tensors_come_each_from_its_own_place() -> None:
    repeats = known(TWO)
    given = [
        {"name": "b", "datatype": "FP32", "shape": [2, 1], "parameters": {"binary_data_size": 8}},
        {"name": "a", "datatype": "UINT8", "shape": [2, 2], "parameters": {"binary_data_size": 4}},
    ]
    for values in ([1.0, 2.0], [3.0, 4.0]):
        tail = np.array(values, np.float32).tobytes() + bytes([9, 8, 7, 6])
        found = asked(repeats, header(*given), tail).feeds
        assert (found["b"].tolist(), found["a"].tolist()) == ([[values[0]], [values[1]]], [[9, 8], [7, 6]])


def test_the_same_json_before_another_number_of_bytes_is_refused_in_the_same_words() -> None:
    repeats, text = known(), header()
    asked(repeats, text, bytes(4))
    for tail in (b"", bytes(3), bytes(5)):
        with pytest.raises(RequestError) as found:
            asked(repeats, text, tail)
        with pytest.raises(RequestError) as expected:
            wholly(text, tail)
        assert str(found.value) == str(expected.value)


def test_shared_memory_is_read_anew_each_time_and_whether_it_may_be_is_asked_anew() -> None:
    repeats, text, read = known(), header(tensor(**REGION)), list[RegionSlice]()

    def reads(place: RegionSlice) -> memoryview:
        read.append(place)
        return memoryview(bytearray([len(read)] * 4))

    assert [asked(repeats, text, b"", reads).feeds["image"].flat[0] for _ in range(3)] == [1, 2, 3]
    assert read == [RegionSlice("in", 0, 4)] * 3
    with pytest.raises(RequestError, match="not available"):
        asked(repeats, text, b"")


def test_what_is_turned_decoded_or_parsed_each_time_is_kept_by_nobody() -> None:
    floats = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "parameters": {"binary_data_size": 16}}
    numbers = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]}
    repeats = known()
    for text, tail in ((header(floats), np.zeros(4, np.float32).tobytes()), (header(numbers), b"")):
        assert asked(repeats, text, tail).response_header is asked(repeats, text, tail).response_header is None
    assert asked(repeats, header(floats), np.ones(4, np.float32).tobytes()).feeds["image"].tolist() == [
        [[[255], [255]], [[255], [255]]]
    ]


def test_the_newest_are_kept_and_no_more() -> None:
    repeats = known()
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    texts = [header(id=str(number), outputs=outputs) for number in range(MAX_HEADERS + 1)]
    for text in texts:
        asked(repeats, text, bytes(4))
    assert asked(repeats, texts[-1], bytes(4)).response_header is not None
    assert asked(repeats, texts[0], bytes(4)).response_header is None  # forgotten, and known again from now on
    assert asked(repeats, texts[0], bytes(4)).response_header is not None


def answered(call: InferenceRequest, rows: int, first: float = 0.0) -> tuple[dict[str, Any], bytes]:
    logits = np.full((rows, 3), first, np.float32)
    body, length = encode_response(call, {"logits": logits}, "m", "1", ())
    assert length is not None
    return msgspec.json.decode(body[:length]), body[length:]


def test_an_answer_after_kept_json_is_that_of_its_own_outputs() -> None:
    repeats = known()
    text = header(id="7", outputs=[{"name": "logits", "parameters": {"binary_data": True}}])
    asked(repeats, text, bytes(4))
    call = asked(repeats, text, bytes(4))
    for rows, first in ((1, 0.5), (1, 1.5), (2, 2.5), (1, 3.5)):
        record, raw = answered(call, rows, first)
        assert record["outputs"][0]["shape"] == [rows, 3]
        assert record["outputs"][0]["parameters"] == {"binary_data_size": 12 * rows}
        assert record["id"] == "7"
        assert np.frombuffer(raw, np.float32).tolist() == [first] * 3 * rows


def test_an_answer_that_goes_to_shared_memory_is_written_there_each_time() -> None:
    repeats, written = known(), list[tuple[RegionSlice, bytes]]()
    place = {"shared_memory_region": "out", "shared_memory_byte_size": 12}
    text = header(outputs=[{"name": "logits", "parameters": place}])
    for first in (1.0, 2.0, 3.0):
        call = asked(repeats, text, bytes(4))
        logits = np.full((1, 3), first, np.float32)
        body, length = encode_response(
            call, {"logits": logits}, "m", "1", (), write=lambda where, raw: written.append((where, raw))
        )
        assert length is None
        assert msgspec.json.decode(body)["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [1, 3]}]
    assert [(where.region, np.frombuffer(raw, np.float32)[0]) for where, raw in written] == [
        ("out", 1.0),
        ("out", 2.0),
        ("out", 3.0),
    ]
