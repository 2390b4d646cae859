"""A ModelInferRequest as a RequestAdapter. Knows nothing of HTTP/2."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from deploy.runtime.content.coding import Inflater
from deploy.runtime.grpc.call import GrpcCall
from deploy.runtime.grpc.convert import request_from_message, response_from_result
from deploy.runtime.grpc.messages import SERVICE, message_classes, parse_message
from deploy.runtime.grpc.reading import Message
from deploy.runtime.grpc.status import GrpcStatus, UnknownModel, status_of
from deploy.runtime.inference.handler import LONG_BYTES, TRACE_HEADERS, InferenceHandler, SpanAttributes
from deploy.runtime.protocol import metadata
from deploy.runtime.protocol.requests import InferenceRequest
from deploy.runtime.protocol.shared_memory import RegionAccess, SharedMemoryPolicy
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from toolchain.errors import ToolchainError

NUMBER_COPIES = 16  # bytes that a byte of typed numbers takes on its way to an array


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
        self._regions = RegionAccess(handler.regions, shared, lambda: call.connection.is_local)
        self.client: Hashable = call.connection
        self.budget_client: Hashable = call.connection.client
        self._left_s = None if call.deadline is None else max(0.0, call.deadline - handler.loop.time())
        self._parsed: Any = None
        self._inflater: Inflater | None = None
        if not message.encoding:
            self._parse_message(message.content)
        self.is_heavy = self._parsed is None or self._has_long_numbers()

    def is_gone(self) -> bool:
        return self._call.is_ended

    def unpack(self) -> bool:
        if self._parsed is not None:
            return True
        if self._inflater is None:
            self._inflater = self._message.inflater(self._call.max_bytes)
        if not self._inflater.step():
            return False
        self._parse_message(self._inflater.content)
        return True

    def parse(self) -> InferenceRequest:
        numbers_bytes = self._parsed.ByteSize() * NUMBER_COPIES if self._has_long_numbers() else 0
        with self._handler.budget.reserve_to_read(numbers_bytes, self.budget_client):
            call = request_from_message(self._parsed, self._handler.bundle.manifest, self._regions.read, self._left_s)
        self._regions.check_access(one.region for one in call.outputs)
        return call

    def _parse_message(self, content: memoryview) -> None:
        self._parsed = parse_message("ModelInferRequest", content)
        self._message = self._message._replace(content=memoryview(b""))
        name, version = self._parsed.model_name, self._parsed.model_version
        if words := metadata.unknown_model_text(self._handler.bundle.manifest, name, version):
            raise UnknownModel(words)

    def _has_long_numbers(self) -> bool:
        return not self._parsed.raw_input_contents and self._parsed.ByteSize() > LONG_BYTES

    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> Any:
        manifest = self._handler.bundle.manifest
        model = (manifest.name, manifest.release, manifest.labels)
        return response_from_result(message_classes(), call, answer, model, times, self._handler.regions.write)

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
