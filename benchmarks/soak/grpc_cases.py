"""Malformed gRPC: damaged messages and invalid HTTP/2. Each from a seed; sends nothing."""

import struct
from random import Random
from typing import Any

from benchmarks.serving.clients.http2 import DATA, END_HEADERS, END_STREAM, FIELDS, HEADERS, OPENING, frame
from benchmarks.soak.cases import FILE, FILE_BYTES, Case
from benchmarks.soak.mutations import TOKENS, mutate_bytes
from deploy.runtime.grpc.messages import message_classes

TEXTS = ("", "null", "image", "logits", "1", "UINT8", "FP32", "BYTES", "BF16", "x" * 3000, "\0", "é\u202e", "a")
NUMBERS = (0, 1, -1, 3, 8, 33, 192, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
OTHERS = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ServerMetadata", "ServerLive", "NoSuch")
NAMES = (
    *(
        "shared_memory_region",
        "shared_memory_offset",
        "shared_memory_byte_size",
        "classification",
        "timeout",
        "timings",
    ),
    *("binary_data_size", "", "\0"),
)
CONTENTS = {
    "bool_contents": True,
    "int_contents": -1,
    "uint_contents": 300,
    "fp32_contents": 1e38,
    "bytes_contents": b"x",
}

METADATA = (
    *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"x-bin", b"authorization", b"user-agent", b"x\xff"),
    *(b"content-length", b":status", b":unknown", b"connection", b"Upper", b"", b"grpc-status", b"grpc-previous-rpc"),
)
BYTES = (
    *(b"", b"gzip", b"deflate", b"identity", b"nothing", b"1n", b"0S", b"-5S", b"99999999H", b"\xff\xfe", b"\0", b"!"),
    *(b"/inference.GRPCInferenceService/", b"/", b"*", b"application/grpc+json", b"text/html", b"x" * 126, b"AA=="),
)


def infer_message() -> Any:
    message = message_classes()["ModelInferRequest"](model_name="null", id="r1")
    message.inputs.add(name="image", datatype="UINT8", shape=[1, 8, 8, 3])
    message.outputs.add(name="logits")
    message.raw_input_contents.append(bytes(192))
    return message


def grpc_case(chance: Random) -> Case:
    """A message with wrong fields or damaged bytes."""
    kind = chance.random()
    if kind < 0.1:
        return Case("grpc", chance.choice(TOKENS) + chance.randbytes(chance.randrange(40)), chance.choice(OTHERS))
    if kind < 0.3:
        return _region_case(chance)
    message = infer_message()
    for _ in range(chance.randrange(4)):
        _mutate(message, chance)
    content: bytes = message.SerializeToString()
    method = chance.choice(("ModelInfer", "ModelInfer", "ModelStreamInfer"))
    return Case("grpc", mutate_bytes(content, chance) if chance.random() < 0.4 else content, method)


def _mutate(message: Any, chance: Random) -> None:
    tensor = message.inputs[0]
    match chance.randrange(8):
        case 0:
            setattr(message, chance.choice(("model_name", "model_version", "id")), chance.choice(TEXTS))
        case 1:
            setattr(tensor, chance.choice(("name", "datatype")), chance.choice(TEXTS))
        case 2:
            tensor.shape[:] = [chance.choice(NUMBERS) for _ in range(chance.choice((0, 1, 4, 4, 4, 90)))]
        case 3:
            _set(chance.choice((message, tensor, message.outputs[0])).parameters[chance.choice(NAMES)], chance)
        case 4:
            name, value = chance.choice(tuple(CONTENTS.items()))
            getattr(tensor.contents, name).extend([value] * chance.choice((0, 1, 192)))
        case 5:
            message.raw_input_contents.append(bytes(chance.choice((0, 1, 192))))
        case 6:
            del message.raw_input_contents[:]
        case _:
            chance.choice((message.inputs, message.outputs)).add(name=chance.choice(TEXTS))


def _set(parameter: Any, chance: Random) -> None:
    match chance.randrange(5):
        case 0:
            parameter.int64_param = chance.choice(NUMBERS)
        case 1:
            parameter.string_param = chance.choice(TEXTS)
        case 2:
            parameter.bool_param = True
        case 3:
            parameter.double_param = chance.choice((0.5, 1e308, float("nan")))
        case _:
            parameter.uint64_param = (1 << 64) - 1


def _region_case(chance: Random) -> Case:
    verb = chance.choice(("Register", "Register", "Status", "Unregister"))
    message = message_classes()[f"SystemSharedMemory{verb}Request"](name=chance.choice(TEXTS))
    if verb == "Register":
        message.key = chance.choice((f"/{FILE}", "/../x", "", "/none", "\0"))
        message.offset, message.byte_size = (chance.choice((0, 1, FILE_BYTES, 1 << 63, (1 << 64) - 1)) for _ in "ab")
    content: bytes = message.SerializeToString()
    return Case(
        "grpc", mutate_bytes(content, chance) if chance.random() < 0.4 else content, f"SystemSharedMemory{verb}"
    )


def _fields(chance: Random) -> bytes:
    """Literals without indexing, each name and value shorter than 127 bytes (RFC 7541, 6.2.2)."""
    fields = [(name.encode(), text.encode()) for name, text in FIELDS.items()]
    for _ in range(chance.choice((0, 1, 1, 2))):
        at = chance.randrange(len(fields) + 1)
        match chance.randrange(4):
            case 0:
                fields[at:at] = [(chance.choice(METADATA), chance.choice(BYTES))]
            case 1 if at < len(fields):
                fields[at] = (fields[at][0], chance.choice(BYTES))
            case 2 if at < len(fields):
                fields[at] = (fields[at][0], mutate_bytes(fields[at][1], chance, 1)[:126])
            case _:
                fields[at : at + 1] = fields[at : at + 1] * chance.choice((0, 2))
    return b"".join(b"\0" + b"".join(bytes([len(text)]) + text for text in field) for field in fields)


def http2_case(chance: Random) -> Case:
    """A call in damaged frames, or frames of any type in any order."""
    message: bytes = infer_message().SerializeToString()
    data = chance.choice((0, 0, 0, 1, 255)), chance.choice((len(message), len(message), 0, 1, (1 << 32) - 1))
    call = [
        frame(HEADERS, END_HEADERS, 1, _fields(chance)),
        frame(DATA, END_STREAM, 1, struct.pack(">BI", *data) + message),
    ]
    for _ in range(chance.randrange(4)):
        flags, stream = chance.randrange(256), chance.choice((0, 1, 3, 2, (1 << 31) - 1))
        content = chance.randbytes(chance.choice((0, 4, 5, 8, 6, 60)))
        call.insert(chance.randrange(len(call) + 1), frame(chance.randrange(12), flags, stream, content))
    found = OPENING + b"".join(call)
    return Case("http2", mutate_bytes(found, chance) if chance.random() < 0.7 else found)
