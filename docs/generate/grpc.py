"""The gRPC interface, from the messages that the server itself is made of."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from deploy.runtime.grpc.messages import SERVICE, message_classes
from docs.generate.markdown import code, page, table

ABOUT = f"""Service `{SERVICE}`: the [Open Inference Protocol](https://github.com/kserve/open-inference-protocol) with
Triton's statistics, model configuration, system shared memory and streams, as far as the messages below go. Fields that
are not listed are skipped. The server listens where `GRPC_PORT` says; images set it to 8081.

Errors have gRPC's own codes: `INVALID_ARGUMENT` for a request that does not fit the model, `NOT_FOUND` for another
model or version, `UNAVAILABLE` when the server is not ready or full, `DEADLINE_EXCEEDED`, `UNAUTHENTICATED`."""
REQUEST, RESPONSE = "Request", "Response"
PLAIN = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


def grpc_page() -> str:
    found: dict[str, Descriptor] = {name: kind.DESCRIPTOR for name, kind in message_classes().items()}
    calls = [name.removesuffix(RESPONSE) for name in found if name.endswith(RESPONSE)]
    rows = [(code(call), _link(call + REQUEST, found), _link(call + RESPONSE, found)) for call in calls]
    messages = (part for name, one in found.items() for part in _message(name, one))
    return page(
        "gRPC",
        "the server's protobuf messages",
        ABOUT,
        "## Calls",
        table(("call", "request", "response"), rows),
        "## Messages",
        *messages,
    )


def _link(name: str, found: dict[str, Descriptor]) -> str:
    """A stream takes what the plain call does."""
    name = name if name in found else name.replace("Stream", "")
    return f"[{name}](#{_anchor(name)})"


def _anchor(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _message(name: str, descriptor: Descriptor) -> Iterator[str]:
    yield f"### {name.rpartition('.')[2]}"
    rows = [(str(field.number), code(field.name), _kind(field)) for field in descriptor.fields]
    yield table(("number", "field", "type"), rows) if rows else "No fields."


def _kind(field: FieldDescriptor) -> str:
    message: Any = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return f"map of text to {_kind(message.fields_by_name['value'])}"
    named = message or field.enum_type
    name = f"[{named.name}](#{_anchor(named.name)})" if message else named.name if named else PLAIN[field.type]
    return f"repeated {name}" if field.is_repeated else name
