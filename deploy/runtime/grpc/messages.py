"""The messages of inference.GRPCInferenceService, as classes made from the protocol's descriptors.

The source is inference.proto; `make grpc-descriptors` compiles it to inference.binpb. No generated Python code.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from toolchain.errors import RequestError

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
DESCRIPTORS = Path(__file__).with_name("inference.binpb")


@cache
def message_classes() -> dict[str, Any]:
    """The class of each message by its name, `Outer.Inner` for one that is nested. They live in a descriptor pool of
    their own, so that a process may also import a client's messages of the same names."""
    pool = DescriptorPool()
    (file,) = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    pool.Add(file)
    messages = pool.FindFileByName(file.name).message_types_by_name.values()
    return {
        descriptor.full_name.removeprefix(f"{PACKAGE}."): message_factory.GetMessageClass(descriptor)
        for message in messages
        for descriptor in _with_nested(message)
    }


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    yield from (nested for nested in message.nested_types if not nested.GetOptions().map_entry)


def parse_message(name: str, content: bytes | memoryview) -> Any:
    """RequestError for bytes that are not such a message: left to itself, grpcio reports a server error."""
    try:
        return message_classes()[name].FromString(content)
    except DecodeError as error:
        raise RequestError(f"the call's {len(content)} bytes are not a whole {PACKAGE}.{name}") from error
