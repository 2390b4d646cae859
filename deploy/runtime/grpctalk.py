"""One ModelInferRequest as the desk takes it, and where its client is. Knows nothing of gRPC's server."""

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any
from urllib.parse import unquote

from deploy.runtime.exchange import LONG_BYTES, Desk
from deploy.runtime.grpcmessages import types
from deploy.runtime.grpcwire import call_from_message, response_from_answer
from deploy.runtime.messages import is_loopback
from deploy.runtime.sharedmemory import Offer, Policy
from deploy.runtime.turns import Answer
from deploy.runtime.wire import Call

Context = Any  # grpc.aio.ServicerContext, generic over types that only generated code has


class GrpcTalk:
    """See exchange.Talk: a ModelInferRequest and the future of what it is answered with. shared: who may use shared
    memory."""

    def __init__(self, desk: Desk, message: Any, context: Context, shared: Policy) -> None:
        self._desk, self._message = desk, message
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


def is_local(context: Context) -> bool:
    """peer(): `ipv4:127.0.0.1:40000`, `ipv6:[::1]:40000` with its brackets escaped, or `unix:`."""
    kind, _, address = unquote(context.peer()).partition(":")
    return kind == "unix" or is_loopback(address.rpartition(":")[0].strip("[]"))
