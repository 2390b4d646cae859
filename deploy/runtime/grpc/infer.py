"""One ModelInferRequest as the desk takes it, and where its client is. Knows nothing of gRPC's server."""

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any
from urllib.parse import unquote

import grpc

from deploy.runtime.grpc.convert import call_from_message, response_from_answer
from deploy.runtime.grpc.messages import SERVICE, types
from deploy.runtime.http.messages import is_loopback
from deploy.runtime.inference.handler import LONG_BYTES, TRACE, Asked, Desk
from deploy.runtime.protocol.requests import Call
from deploy.runtime.protocol.shared_memory import Offer, Policy
from deploy.runtime.scheduling.errors import Expired, Gone, Unavailable
from deploy.runtime.scheduling.fair_queue import Answer, Outcome
from toolchain.errors import RequestError, ToolchainError

Context = Any  # grpc.aio.ServicerContext, generic over types that only generated code has


class UnknownModel(RequestError):
    """Another name or version than that of the model here."""


class Unauthorized(ToolchainError):
    """A call without a token of ours."""


STATUSES: dict[type[ToolchainError], grpc.StatusCode] = {  # the first that fits
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    UnknownModel: grpc.StatusCode.NOT_FOUND,
    RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Expired: grpc.StatusCode.DEADLINE_EXCEEDED,
    Gone: grpc.StatusCode.CANCELLED,
    ToolchainError: grpc.StatusCode.INTERNAL,
}


def status_of(error: ToolchainError) -> grpc.StatusCode:
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))


class GrpcTalk:
    """See exchange.Talk: a ModelInferRequest and the future of what it is answered with. shared: who may use shared
    memory; method: that it came by."""

    def __init__(self, desk: Desk, message: Any, context: Context, shared: Policy, method: str) -> None:
        self._desk, self._message, self._context, self._method = desk, message, context, method
        self._offer = Offer(desk.regions, shared, lambda: is_local(context))
        self.client: Hashable = context.peer()
        self._left_s = context.time_remaining()
        self.outcome: asyncio.Future[Any] = desk.loop.create_future()
        self.heavy = not message.raw_input_contents and message.ByteSize() > LONG_BYTES

    def gone(self) -> bool:
        return self.outcome.cancelled()

    def parsed(self) -> Call:
        call = call_from_message(self._message, self._desk.bundle.manifest, self._offer.read, self._left_s)
        self._offer.check(one.place for one in call.wanted)
        return call

    def told(self, call: Call, answer: Answer, times: Mapping[str, float]) -> Any:
        manifest = self._desk.bundle.manifest
        model = (manifest.name, manifest.release, manifest.labels)
        return response_from_answer(types(), call, answer, model, times, self._desk.regions.write)

    def sent(self, outcome: Any) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def asked(self, outcome: Outcome) -> Asked:
        name = f"{SERVICE}/{self._method}"
        status = grpc.StatusCode.OK if isinstance(outcome, Answer) else status_of(outcome)
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.response.status_code": status.name,
            "rpc.system": "grpc",  # with the next: as it was until version 1.39 of the conventions
            "rpc.service": SERVICE,
        }
        metadata = self._context.invocation_metadata() or ()
        found = {key: value for key, value in metadata if key in TRACE and isinstance(value, str)}
        return Asked(name, attributes, found)


def is_local(context: Context) -> bool:
    """peer(): `ipv4:127.0.0.1:40000`, `ipv6:[::1]:40000` with its brackets escaped, or `unix:`."""
    kind, _, address = unquote(context.peer()).partition(":")
    return kind == "unix" or is_loopback(address.rpartition(":")[0].strip("[]"))
