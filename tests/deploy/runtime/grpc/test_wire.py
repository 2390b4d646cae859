"""The fields of a message, counted before it is parsed."""

import pytest

from deploy.runtime.grpc.messages import message_classes
from deploy.runtime.grpc.wire import MAX_FIELDS, count_parsed_bytes
from toolchain.errors import RequestError


def test_raw_tensors_and_images_are_not_counted_and_all_else_is() -> None:
    message = message_classes()["ModelInferRequest"](model_name="null", raw_input_contents=[bytes(1000)])
    image = message.inputs.add(name="image", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(bytes(5000))
    image.parameters["a"].string_param = "b"
    encoded = message.SerializeToString()
    assert count_parsed_bytes(encoded) == len(encoded) - 6000
    numbers = message_classes()["ModelInferRequest"]()
    numbers.inputs.add().contents.fp32_contents.extend([1.0] * 1000)
    assert count_parsed_bytes(numbers.SerializeToString()) > 4000


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x2a\x00",
        b"\x32\x00",
        b"\x3a\x00",
        b"\x22\x02\x0a\x00",
        b"\x2a\x04\x2a\x02\x42\x00",
        b"\x2a\x04\x22\x02\x0a\x00",
    ],
)
def test_fields_of_two_bytes_that_take_a_hundred_are_refused_unparsed(bomb: bytes) -> None:
    """Inputs, outputs, raw contents, parameters, elements: each of them, and those within an input."""
    with pytest.raises(RequestError, match=f"more than {MAX_FIELDS} fields"):
        count_parsed_bytes(bomb * (MAX_FIELDS + 1))


@pytest.mark.parametrize("broken", [b"\x2a", b"\x2a\x05a", b"\x80" * 11, b"\x2b", b"\x09abc", b"\x2a\x02\x2a\x05"])
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises(RequestError, match=r"not a whole inference\.ModelInferRequest"):
        count_parsed_bytes(broken)
