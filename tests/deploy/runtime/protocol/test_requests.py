"""Requests' bytes: what is read, and the sentence for each thing that cannot be."""

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.protocol.requests import InferenceRequest, RequestedOutput, parse_body
from deploy.runtime.protocol.responses import encode_response, encode_strings
from deploy.runtime.protocol.tensors import ALIGNMENT, aligned_buffer, elements_from_bytes
from deploy.runtime.protocol.top_k import top_indices
from toolchain.errors import RequestError
from toolchain.records.tensors import TensorSpec

IMAGE = (TensorSpec("image", "uint8", (None, 2, 2, 1)),)
FLOAT = (TensorSpec("image", "float32", (None, 2)),)
LOGITS = (TensorSpec("logits", "float32", (None, 3)),)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4], **changes}


def call(*tensors: dict[str, Any], tail: bytes = b"", inputs: Any = IMAGE, **members: Any) -> InferenceRequest:
    header = json.dumps({"inputs": list(tensors), **members}).encode()
    return parse_body(memoryview(header + tail), len(header) if tail else None, inputs, LOGITS)


def binary(size: int, **changes: Any) -> dict[str, Any]:
    record = tensor(parameters={"binary_data_size": size}, **changes)
    del record["data"]
    return record


def test_numbers_flat_or_nested_become_the_same_array() -> None:
    flat, nested = call(tensor()), call(tensor(data=[[[[1], [2]], [[3], [4]]]]))
    np.testing.assert_array_equal(flat.feeds["image"], nested.feeds["image"])
    assert flat.feeds["image"].dtype == np.uint8


def test_binary_tensors_are_read_from_an_aligned_address_wherever_they_lie() -> None:
    for pad in range(3):
        found = call(binary(4), tail=b"\1\2\3\4", id="x" * pad).feeds["image"]
        assert found.ctypes.data % ALIGNMENT == 0
        assert found.ravel().tolist() == [1, 2, 3, 4]


def test_an_aligned_buffer_is_aligned_at_the_offset() -> None:
    for offset in (0, 1, 63, 64, 1000):
        view = np.frombuffer(aligned_buffer(2000, offset), np.uint8)
        assert (view.ctypes.data + offset) % ALIGNMENT == 0


def test_a_float_tensor_behind_an_odd_header_is_read_from_an_aligned_address_too() -> None:
    raw = np.array([1.5, -2.5], np.float32)
    given = {"name": "image", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    for pad in range(3):
        found = call(given, tail=raw.tobytes(), inputs=FLOAT, id="x" * pad).feeds["image"]
        assert found.ctypes.data % ALIGNMENT == 0
        assert found.tolist() == [[1.5, -2.5]]


def test_a_header_of_no_bytes_means_a_raw_tensor_answered_in_binary() -> None:
    found = parse_body(memoryview(bytes(8)), 0, IMAGE, LOGITS)
    assert found.feeds["image"].shape == (2, 2, 2, 1)
    assert found.outputs == (RequestedOutput("logits", binary=True),)


def test_pictures_come_length_prefixed_or_in_base64() -> None:
    elements = ["JPEG", "PNG!!"]
    raw = encode_strings(elements)
    expected = (b"JPEG", b"PNG!!")
    shape = {"datatype": "BYTES", "shape": [2]}
    assert call(binary(len(raw), **shape), tail=raw).images == expected
    texts = [base64.b64encode(element).decode() for element in expected]
    assert call(tensor(data=texts, **shape)).images == expected


def test_what_is_wanted_follows_the_parameters() -> None:
    assert call(tensor()).outputs == (RequestedOutput("logits"),)
    assert call(tensor(), parameters={"binary_data_output": True}).outputs == (RequestedOutput("logits", True),)
    asked = [{"name": "logits", "parameters": {"binary_data": True, "classification": 2}}]
    assert call(tensor(), outputs=asked).outputs == (RequestedOutput("logits", True, 2),)
    assert call(tensor(), parameters={"timeout": 1500}).timeout_us == 1500


SHARED = {"shared_memory_region": "x", "shared_memory_byte_size": 4}
WRONG: list[tuple[dict[str, Any], str]] = [
    (tensor(name="picture"), "no input 'picture': the model has image"),
    (
        tensor(datatype="FP32", shape=[1, 1, 2, 2]),
        "input 'image': expected uint8 [N, 2, 2, 1], got float32 [1, 1, 2, 2]",
    ),
    (tensor(datatype="UINT16"), "input 'image': expected uint8 [N, 2, 2, 1], got UINT16 [1, 2, 2, 1]"),
    (tensor(datatype="U8"), "input 'image': unknown datatype 'U8'; expected UINT8"),
    (tensor(shape=[-1, 2, 2, 1]), "expected uint8 [N, 2, 2, 1], got uint8 [-1, 2, 2, 1]"),
    (tensor(shape=[0, 2, 2, 1], data=[]), "expected uint8 [N, 2, 2, 1], got uint8 [0, 2, 2, 1]"),
    (tensor(shape=[2, 2, 2, 1]), "input 'image': shape [2, 2, 2, 1] has 8 elements, got data of 4"),
    (tensor(data=[1, 2, 3, 256]), "input 'image': data does not fit uint8: Expected `int` <= 255 - at `$[3]`"),
    (tensor(data=[1, 2, 3, -1]), "Expected `int` >= 0 - at `$[3]`"),
    (tensor(data=[1, 2, 3, 0.5]), "Expected `int`, got `float`"),
    (tensor(data=[1, 2, 3, "x"]), "Expected `int`, got `str`"),
    (tensor(data=[1, 2, 3, None]), "Expected `int`, got `null`"),
    (tensor(data=[1, 2, 3, True]), "Expected `int`, got `bool`"),
    (tensor(data=[[[[1, 2, 3], [4]]]]), "input 'image': data is not a regular list of uint8 numbers"),
    (tensor(data=[1, [2, 3], 4]), "input 'image': data does not fit uint8: Expected `int`, got `array` - at `$[1]`"),
    (tensor(data=[[1, 2], [3, 4]]), "input 'image': expected data as a list, flat or nested as [1, 2, 2, 1]"),
    (tensor(data=5), "input 'image': expected data as a list"),
    (tensor(shape=[1.5]), "the request's JSON: Expected `int`, got `float` - at `$.inputs[0].shape[0]`"),
    (tensor(parameters={"binary_data_size": 4}), "has both data and binary_data_size"),
    (binary(-1), "binary_data_size must be a whole number, got -1"),
    (binary(9), "binary_data_size is 9, the body has 0 bytes left"),
    (tensor(parameters=SHARED), "lies in shared memory and in the request"),
    (
        {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "parameters": SHARED},
        "shared memory is not available here; send the bytes",
    ),
    (
        {
            "name": "image",
            "datatype": "UINT8",
            "shape": [1, 2, 2, 1],
            "parameters": SHARED | {"shared_memory_offset": -1},
        },
        "expected shared_memory_region as a string, shared_memory_byte_size and shared_memory_offset as whole numbers",
    ),
    (tensor(datatype="BYTES", shape=[1], data=["?"]), "BYTES data is not base64"),
    (tensor(datatype="BYTES", shape=[1, 2]), "expected BYTES [N] of image files, got BYTES [1, 2]"),
    (tensor(datatype="BYTES", shape=[3], data=["aGk="]), "BYTES [3] has 3 elements, got 1"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message[-40:] for _, message in WRONG])
def test_a_wrong_tensor_is_refused_in_a_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        call(wrong)
    assert message in str(refused.value)


def test_what_is_wrong_with_the_whole_request_is_told() -> None:
    for body, header, message in (
        (b"", None, "the request's JSON: Input data was truncated"),
        (b'{"inputs": [NaN]}', None, "JSON is malformed"),
        (b'{"inputs": ' + b"[" * 100_000, None, "the request's JSON"),
        (b'{"id": "\xff"}', None, "the request's JSON"),
        (b'{"inputs": []}', None, "input 'image' is missing: expected uint8 [N, 2, 2, 1]"),
        (b"{}", 3, "Inference-Header-Content-Length is 3, the body has only 2 bytes"),
        (b"123", 0, "input 'image': expected uint8 [N, 2, 2, 1], 4 bytes each, got 3 bytes"),
    ):
        with pytest.raises(RequestError) as refused:
            parse_body(memoryview(body), header, IMAGE, LOGITS)
        assert message in str(refused.value)
    for tensors, tail, members, message in (
        ([tensor(), tensor()], b"", {}, "input 'image' occurs twice"),
        ([binary(3)], b"123", {}, "uint8 [1, 2, 2, 1] is 4 bytes, got binary_data_size 3"),
        ([binary(4)], b"12345", {}, "1 bytes are left over after the last binary tensor"),
        ([tensor()], b"", {"outputs": [{"name": "x"}]}, "no output 'x': the model has logits"),
        ([tensor()], b"", {"outputs": [{"name": "logits"}] * 2}, "an output is requested twice"),
        ([tensor()], b"", {"parameters": {"timeout": -1}}, "parameter 'timeout': expected microseconds"),
        ([tensor()], b"", {"parameters": {"binary_data_output": 1}}, "expected true or false, got 1"),
    ):
        with pytest.raises(RequestError) as refused:
            call(*tensors, tail=tail, **members)
        assert message in str(refused.value)


def test_numbers_that_a_float_cannot_hold_are_refused() -> None:
    with pytest.raises(RequestError, match="numbers that float32 cannot hold"):
        call(tensor(datatype="FP32", shape=[1, 2], data=[1, 1e300]), inputs=FLOAT)


def test_an_element_that_claims_more_bytes_than_there_are_is_refused() -> None:
    with pytest.raises(RequestError, match="element 0 ends 4294967299 bytes in, of 5"):
        elements_from_bytes("image", memoryview(b"\xff\xff\xff\xff1"))


def test_the_answer_in_binary_and_in_json_says_the_same() -> None:
    outputs = {"logits": np.array([[1.5, np.nan, -2.0]], np.float32)}
    asked = InferenceRequest({}, (), (RequestedOutput("logits"),), id="7")
    body, header = encode_response(asked, outputs, "net", "1", ())
    assert header is None
    assert json.loads(body)["outputs"][0]["data"] == [1.5, None, -2.0]
    assert json.loads(body)["id"] == "7"
    body, header = encode_response(
        InferenceRequest({}, (), (RequestedOutput("logits", True),)), outputs, "net", "1", ()
    )
    assert json.loads(body[:header])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert body[header:] == outputs["logits"].tobytes()


def test_classes_are_score_index_label_best_first() -> None:
    outputs = {"logits": np.array([[1.0, 3.0, 2.0]], np.float32)}
    body, _ = encode_response(
        InferenceRequest({}, (), (RequestedOutput("logits", classes=2),)), outputs, "net", "1", ("a", "b:c")
    )
    assert json.loads(body)["outputs"][0]["data"] == ["3.000000:1:b:c", "2.000000:2"]
    assert json.loads(body)["outputs"][0]["shape"] == [1, 2]
    assert top_indices(np.array([1.0, 1.0]), 9) == [0, 1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(key=st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), value=json_values)
def test_any_value_in_any_member_is_read_or_refused(key: str, value: Any) -> None:
    try:
        call(tensor(**{key: value}))
    except RequestError as refused:
        assert len(str(refused)) < 500
        assert "\n" not in str(refused)


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_mutated_byte_or_cut_is_read_or_refused(data: st.DataObject) -> None:
    header = msgspec.json.encode({"inputs": [binary(4)], "outputs": [{"name": "logits"}]})
    body = bytearray(header + b"\1\2\3\4")
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(1, len(body))) :]
    length = data.draw(st.sampled_from([None, len(header)]) | st.integers(0, len(header) + 9))
    try:
        parse_body(memoryview(bytes(body)), length, IMAGE, LOGITS)
    except RequestError as refused:
        assert str(refused)


def test_numbers_are_parsed_in_pieces_and_keep_their_places() -> None:
    spec = (TensorSpec("image", "int32", (None, 30_000)),)
    numbers = list(range(-15_000, 15_000))
    given = {"name": "image", "datatype": "INT32", "shape": [1, 30_000]}
    for data in (numbers, [numbers]):
        assert call(given | {"data": data}, inputs=spec).feeds["image"].tolist() == [numbers]
    with pytest.raises(RequestError, match=r"does not fit int32: Expected `int`, got `float` - at `\$\[29000\]`"):
        call(given | {"data": [*numbers[:29_000], 1.5, *numbers[29_001:]]}, inputs=spec)


def test_an_empty_list_is_no_number() -> None:
    with pytest.raises(RequestError, match="data is not a regular list of uint8 numbers"):
        call(tensor(shape=[1, 1], data=[]), inputs=(TensorSpec("image", "uint8", (None, 1)),))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"parameters": {f"{number:x}": 1 for number in range(11_000)}},
            "JSON with 110.. strings: expected at most 10000",
        ),
        ({"outputs": [{"name": "logits"}] * 11_000}, "JSON with 220.. strings: expected at most 10000"),
        ({"parameters": {"a": [[[]]]}}, "Expected `bool | int | float | str`, got `array`"),
    ],
)
def test_json_of_many_objects_is_refused_before_they_are_made(more: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("|", r"\|")):
        call(tensor(), **more)


def test_what_takes_far_more_memory_than_it_has_bytes_is_refused_by_its_size() -> None:
    """An id, which the reply repeats to a client that may read nothing; a shape, elements: each number an object."""
    with pytest.raises(RequestError, match="an id of 10001 letters: expected at most 10000"):
        call(tensor(), id="x" * 10_001)
    with pytest.raises(RequestError, match=r"inputs\[0\]: a shape of .* bytes, expected at most 1000"):
        call(tensor(shape=[300] * 5000))
    with pytest.raises(RequestError, match="got 33 axes"):
        call(tensor(shape=[1] * 33))
    with pytest.raises(RequestError, match="expected at most 10000 elements, got more"):
        elements_from_bytes("image", memoryview(bytes(4 * 10_001)))
