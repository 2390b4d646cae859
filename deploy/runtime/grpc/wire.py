"""The fields of a ModelInferRequest, counted before it is parsed: an empty one takes two bytes on the wire and a
hundred in memory. Knows Protocol Buffers' encoding, and where this message holds others.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from toolchain.errors import RequestError

MAX_FIELDS = 2000

# numbers in inference.proto of what holds fields of its own; None: bytes that are kept as they are
BYTES_CONTENTS, RAW_INPUT_CONTENTS = {8: None}, None
FIELDS: Mapping[int, Any] = {4: {}, 5: {4: {}, 5: BYTES_CONTENTS}, 6: {2: {}}, 7: RAW_INPUT_CONTENTS}


def count_parsed_bytes(message: bytes | memoryview) -> int:
    """How many bytes of a message are no raw tensors and no images; RequestError for more fields than any has."""
    fields = _Fields()
    fields.count(memoryview(message), FIELDS)
    return len(message) - fields.raw_bytes


class _Fields:
    def __init__(self) -> None:
        self.number = self.raw_bytes = 0

    def count(self, message: memoryview, known: Mapping[int, Any]) -> None:
        for number, start, end in _iterate_fields(message):
            self.number += 1
            if self.number > MAX_FIELDS:
                raise RequestError(f"a message of more than {MAX_FIELDS} fields; send the tensors raw")
            if number in known:
                inner = known[number]
                if inner is None:
                    self.raw_bytes += end - start
                else:
                    self.count(message[start:end], inner)


def _iterate_fields(message: memoryview) -> Iterator[tuple[int, int, int]]:
    """Number (0: of no bytes), start and end of each one's content."""
    at = 0
    while at < len(message):
        tag, start = _read_varint(message, at)
        match tag & 7:
            case 2:
                size, start = _read_varint(message, start)
                at = start + size
            case 0:
                _, at = _read_varint(message, start)
            case 1:
                at = start + 8
            case 5:
                at = start + 4
            case _:
                raise _malformed(message)
        if at > len(message):
            raise _malformed(message)
        yield (tag >> 3 if tag & 7 == 2 else 0), start, at


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    for byte in message[at : at + 10]:
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _malformed(message)


def _malformed(message: memoryview) -> RequestError:
    return RequestError(f"the call's {len(message)} bytes are not a whole inference.ModelInferRequest")
