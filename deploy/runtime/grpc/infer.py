"""A ModelInferRequest as a RequestAdapter. Knows nothing of HTTP/2."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from deploy.runtime.content.coding import Inflater
from deploy.runtime.grpc.call import GrpcCall
from deploy.runtime.grpc.convert import request_from_message, response_from_result
from deploy.runtime.grpc.messages import SERVICE, message_classes, parse_message
from deploy.runtime.grpc.reading import Message
from deploy.runtime.grpc.status import GrpcStatus, UnknownModel, status_of
from deploy.runtime.grpc.wire import count_parsed_bytes
from deploy.runtime.inference.handler import LONG_BYTES, TRACE_HEADERS, InferenceHandler, SpanAttributes
from deploy.runtime.protocol import metadata
from deploy.runtime.protocol.requests import InferenceRequest
from deploy.runtime.protocol.shared_memory import RegionAccess, SharedMemoryPolicy
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from toolchain.errors import ToolchainError

FIELD_COPIES = 24  # bytes that a byte beside raw tensors takes parsed: a number in a varint, a string of no letters


class GrpcAdapter:
    """See RequestAdapter; shared: who may use shared memory. `message` is this adapter's to release. on_outcome: gets
    the reply or the error. ToolchainError for what is no such message, or for another model."""

    def __init__(
        self,
        handler: InferenceHandler,
        shared: SharedMemoryPolicy,
        call: GrpcCall,
        method: str,
        message: Message,
        on_outcome: Callable[[Any], None],
    ) -> None:
        self._handler, self._call, self._method, self._message = handler, call, method, message
        self._on_outcome, self._reservation = on_outcome, message.reservation
        is_local, reserve = (lambda: call.connection.is_local), message.reservation.grow
        self._regions = RegionAccess(handler.regions, shared, is_local, reserve)
        self.client: Hashable = call.connection
        self.budget_client: Hashable = call.connection.client
        self._left_s = None if call.deadline is None else max(0.0, call.deadline - handler.loop.time())
        self._parsed: Any = None
        self._inflater: Inflater | None = None
        self.is_heavy = bool(message.encoding) or _beside_tensors_bytes(message.content) > LONG_BYTES
        if not self.is_heavy:
            self._parse_message(message.content)

    def is_gone(self) -> bool:
        return self._call.is_ended

    def unpack(self) -> bool:
        if not self._message.encoding:
            return True
        if self._inflater is None:
            self._inflater = self._message.inflater(self._call.max_bytes)
        if not self._inflater.step():
            return False
        self._message, self._inflater = self._message._replace(content=self._inflater.content, encoding=b""), None
        return True

    def parse(self) -> InferenceRequest:
        if self._parsed is None:
            size = _beside_tensors_bytes(self._message.content)
            with self._handler.budget.reserve_to_read(size * FIELD_COPIES, self.budget_client):
                self._parse_message(self._message.content)
                call = self._build_request()
        else:
            call = self._build_request()
        self._regions.check_access(one.region for one in call.outputs)
        return call

    def _build_request(self) -> InferenceRequest:
        parsed, self._parsed = self._parsed, None
        return request_from_message(parsed, self._handler.bundle.manifest, self._regions.read, self._left_s)

    def _parse_message(self, content: memoryview) -> None:
        self._parsed = parse_message("ModelInferRequest", content)
        self._message = self._message._replace(content=memoryview(b""))
        name, version = self._parsed.model_name, self._parsed.model_version
        if words := metadata.unknown_model_text(self._handler.bundle.manifest, name, version):
            raise UnknownModel(words)

    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> Any:
        manifest = self._handler.bundle.manifest
        model = (manifest.name, manifest.release, manifest.labels)
        write = self._handler.regions.write
        return response_from_result(message_classes(), call, answer, model, times, write, manifest.output)

    def send(self, outcome: Any) -> None:
        self._reservation.release()
        self._on_outcome(outcome)

    def span_attributes(self, outcome: InferenceOutcome) -> SpanAttributes:
        name = f"{SERVICE}/{self._method}"
        status = GrpcStatus.OK if isinstance(outcome, InferenceResult) else status_of(outcome)
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.response.status_code": status.name,
            "rpc.system": "grpc",  # this and the next: the conventions until version 1.39
            "rpc.service": SERVICE,
        }
        fields = self._call.fields
        found = {key: fields[key.encode()].decode("latin-1") for key in TRACE_HEADERS if key.encode() in fields}
        return SpanAttributes(name, attributes, found)


def _beside_tensors_bytes(message: memoryview) -> int:
    return 0 if len(message) <= LONG_BYTES else count_parsed_bytes(message)


def handle_infer(
    handler: InferenceHandler,
    shared: SharedMemoryPolicy,
    method: str,
    call: GrpcCall,
    message: Message,
    on_outcome: Callable[[Any], None],
) -> None:
    """Answer a message of `method` through `on_outcome`: a ModelInferResponse or a ToolchainError, now or later."""
    try:
        adapter = GrpcAdapter(handler, shared, call, method, message, on_outcome)
    except ToolchainError as error:
        message.reservation.release()
        on_outcome(error)
        return
    handler.handle(adapter)
