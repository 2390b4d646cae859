"""A ModelInferRequest as a RequestAdapter, and whether its client is on this host. Knows nothing of gRPC's server."""

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any
from urllib.parse import unquote

import grpc

from deploy.runtime.grpc.convert import request_from_message, response_from_result
from deploy.runtime.grpc.messages import SERVICE, message_classes
from deploy.runtime.http.messages import is_loopback
from deploy.runtime.inference.handler import LONG_BYTES, TRACE_HEADERS, InferenceHandler, SpanAttributes
from deploy.runtime.protocol.requests import InferenceRequest
from deploy.runtime.protocol.shared_memory import RegionAccess, SharedMemoryPolicy
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from toolchain.errors import RequestError, ToolchainError

GrpcContext = Any  # grpc.aio.ServicerContext, generic over types that only generated code has


class UnknownModel(RequestError):
    """A request for another model name or version than the one served."""


class InvalidToken(ToolchainError):
    """A call without a valid token."""


STATUSES: dict[type[ToolchainError], grpc.StatusCode] = {  # the first that fits
    InvalidToken: grpc.StatusCode.UNAUTHENTICATED,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    ClientDisconnected: grpc.StatusCode.CANCELLED,
    ToolchainError: grpc.StatusCode.INTERNAL,
}


def status_of(error: ToolchainError) -> grpc.StatusCode:
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))


class GrpcAdapter:
    """See RequestAdapter: a ModelInferRequest and the future of its reply. shared: who may use shared memory; method:
    the one that it was sent to."""

    def __init__(
        self, handler: InferenceHandler, message: Any, context: GrpcContext, shared: SharedMemoryPolicy, method: str
    ) -> None:
        self._handler, self._message, self._context, self._method = handler, message, context, method
        self._regions = RegionAccess(handler.regions, shared, lambda: is_local(context))
        self.client: Hashable = context.peer()
        self.budget_client: Hashable = None
        self._left_s = context.time_remaining()
        self.reply: asyncio.Future[Any] = handler.loop.create_future()
        self.is_heavy = not message.raw_input_contents and message.ByteSize() > LONG_BYTES

    def is_gone(self) -> bool:
        return self.reply.cancelled()

    def parse(self) -> InferenceRequest:
        call = request_from_message(self._message, self._handler.bundle.manifest, self._regions.read, self._left_s)
        self._regions.check_access(one.region for one in call.outputs)
        return call

    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> Any:
        manifest = self._handler.bundle.manifest
        model = (manifest.name, manifest.release, manifest.labels)
        return response_from_result(message_classes(), call, answer, model, times, self._handler.regions.write)

    def send(self, outcome: Any) -> None:
        if not self.reply.done():
            self.reply.set_result(outcome)

    def span_attributes(self, outcome: InferenceOutcome) -> SpanAttributes:
        name = f"{SERVICE}/{self._method}"
        status = grpc.StatusCode.OK if isinstance(outcome, InferenceResult) else status_of(outcome)
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.response.status_code": status.name,
            "rpc.system": "grpc",  # this and the next: the conventions until version 1.39
            "rpc.service": SERVICE,
        }
        metadata = self._context.invocation_metadata() or ()
        found = {key: value for key, value in metadata if key in TRACE_HEADERS and isinstance(value, str)}
        return SpanAttributes(name, attributes, found)


def is_local(context: GrpcContext) -> bool:
    """peer(): `ipv4:127.0.0.1:40000`, `ipv6:[::1]:40000` with its brackets escaped, or `unix:`."""
    kind, _, address = unquote(context.peer()).partition(":")
    return kind == "unix" or is_loopback(address.rpartition(":")[0].strip("[]"))
