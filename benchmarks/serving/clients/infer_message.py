"""Open Inference Protocol v2 over gRPC: encodes a request and extracts the tensor of a reply.."""

from collections.abc import Iterator, Sequence

VARINT, BYTES = 0, 2
MODEL_NAME, INPUTS, OUTPUTS, RAW_INPUTS, RAW_OUTPUTS = 1, 5, 6, 7, 6
NAME, DATATYPE, SHAPE = 1, 2, 3


def infer_request(model: str, input_name: str, shape: Sequence[int], output_name: str, raw: bytes) -> bytes:
    """A ModelInferRequest with one uint8 tensor."""
    sizes = b"".join(map(varint, shape))
    tensor = field(NAME, input_name.encode()) + field(DATATYPE, b"UINT8") + field(SHAPE, sizes)
    output = field(NAME, output_name.encode())
    return field(MODEL_NAME, model.encode()) + field(INPUTS, tensor) + field(OUTPUTS, output) + field(RAW_INPUTS, raw)


def raw_output(message: bytes) -> bytes:
    """The first raw output of a ModelInferResponse; ValueError if there is none."""
    for number, content in fields(message):
        if number == RAW_OUTPUTS:
            return content
    raise ValueError(f"no raw output in {message[:200]!r}")


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields."""
    at = 0
    while at < len(message):
        key, at = _varint_at(message, at)
        size, at = _varint_at(message, at)
        if key & 7 == BYTES:
            yield key >> 3, message[at : at + size]
            at += size
        elif key & 7 != VARINT:
            raise ValueError(f"a field of kind {key & 7} in {message[:200]!r}")


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] > 127:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
