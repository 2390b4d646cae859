"""inference.GRPCInferenceService on a port of its own: which method a call is of, and who may make it. The same answers
as over HTTP, from the same InferenceHandler. Imported only where gRPC is switched on.

A call is begun or refused by its head, before any of its message is taken: clients without a token cannot fill the
memory. HTTP/2 is spoken here (connection.py) and not by grpcio, which takes a whole message before it asks anybody,
and whose server ends at a path that is not UTF-8 (docs/decisions/0019).
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial

from deploy.runtime.grpc.call import GrpcCall, Receiver
from deploy.runtime.grpc.connection import GrpcConnection
from deploy.runtime.grpc.frames import encode_field
from deploy.runtime.grpc.infer import handle_infer
from deploy.runtime.grpc.messages import SERVICE
from deploy.runtime.grpc.methods import HEALTH, GrpcMethods
from deploy.runtime.grpc.reading import ENCODINGS
from deploy.runtime.grpc.receivers import CountStatus, InferReceiver, MethodReceiver, StreamReceiver
from deploy.runtime.grpc.status import GrpcStatus, InvalidToken, UnknownMethod, status_of
from deploy.runtime.grpc.turns import TurnQueue
from deploy.runtime.http.access import Secrets
from deploy.runtime.http.limits import ConnectionTable, Limits
from deploy.runtime.http.ports import ACCEPTED_AT_ONCE, port_of, set_queue
from deploy.runtime.http.tls_handshake import TlsHandshake
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.logs import Log
from deploy.runtime.protocol import shared_memory
from deploy.runtime.scheduling.service import SchedulingOptions
from deploy.runtime.security.reload import Reloadable
from deploy.runtime.security.tls import ServingContext, TlsFiles, expiry, server_context
from toolchain.errors import DeviceError, ToolchainError

METHOD_BYTES = 64 << 10  # of the message of a method that is not inference
NOT_GRPC = encode_field(b":status", b"415")
MakeReceiver = Callable[[GrpcCall, CountStatus], Receiver]
UNKNOWN = ("unknown", None, 0)


def name_path(method: str) -> bytes:
    """The method's path, as bytes: that of a call may be anything."""
    return f"/{SERVICE}/{method}".encode()


def grpc_context(tls: TlsFiles, log: Log) -> Reloadable[ServingContext]:
    """As for HTTP; but with client authorities, a client without a certificate is not even connected."""

    def make() -> ServingContext:
        context = server_context(tls, "h2")
        if tls.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return ServingContext(context, expiry(tls.cert))

    return Reloadable("TLS of gRPC", tls.files, make, log)


class GrpcServer:
    """The CallApp of its connections. connections: those of all ports."""

    def __init__(
        self,
        handler: InferenceHandler,
        connections: ConnectionTable,
        options: SchedulingOptions,
        shared: shared_memory.SharedMemoryPolicy,
        limits: Limits,
        secrets: Secrets,
        tls: TlsFiles | None,
    ) -> None:
        self._handler, self.connections, self._limits, self._secrets = handler, connections, limits, secrets
        self.turns = TurnQueue(handler.loop)
        self._tls = None if tls is None else grpc_context(tls, handler.log)
        if self._tls is not None:
            secrets.sources.append(self._tls)
        self._methods: dict[bytes, tuple[str, MakeReceiver | None, int]] = {}
        for name, receiver in (("ModelInfer", InferReceiver), ("ModelStreamInfer", StreamReceiver)):
            infer = partial(handle_infer, handler, shared, name)
            self._methods[name_path(name)] = name, partial(receiver, infer=infer), limits.body_bytes
        for name, method in GrpcMethods(handler, options, shared).handlers().items():
            made = partial(MethodReceiver, kind=f"{name}Request", method=method)
            self._methods[name_path(name)] = name, made, METHOD_BYTES

    async def start(self, host: str, port: int) -> int:
        """Start listening and return the port; DeviceError when it is taken."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._protocol, host, port, backlog=ACCEPTED_AT_ONCE)
        except OSError as error:
            raise DeviceError(
                f"cannot listen on {host}:{port} for gRPC; choose another: --grpc-port or GRPC_PORT"
            ) from error
        set_queue(self._server)
        return port_of(self._server)

    def close(self) -> None:
        """Accept no more connections; those that are open stay."""
        self._server.close()

    def _protocol(self) -> asyncio.BaseProtocol:
        connection = GrpcConnection(self, self._limits, self._handler.loop.time)
        if self._tls is None:
            return connection
        return TlsHandshake(connection, self._tls.value.context, self._limits, self._count_failed_handshake)

    @property
    def draining(self) -> bool:
        return self._handler.health.draining

    def count_rejection(self, reason: str) -> None:
        self._handler.metrics.rejections[reason] += 1

    def _count_failed_handshake(self, why: str) -> None:
        self.count_rejection("handshake")
        if self._handler.log.is_enabled("debug"):
            self._handler.log.write("debug", "no handshake", reason=why)

    def begin(self, call: GrpcCall) -> None:
        if not call.fields.get(b"content-type", b"").startswith(b"application/grpc"):
            call.refuse(NOT_GRPC)
            return
        name, make_receiver, max_bytes = self._methods.get(call.path, UNKNOWN)
        count = partial(self._count, name)
        try:
            if make_receiver is None:
                raise UnknownMethod(f"no such method; this server has those of {SERVICE}")
            self._check_token(name, call.fields.get(b"authorization"))
            if call.encoding not in ENCODINGS:
                raise UnknownMethod("the only encodings here are identity, gzip and deflate")
        except ToolchainError as error:
            count(status_of(error))
            call.fail(error)
        else:
            call.begin(make_receiver(call, count), max_bytes, self._handler.budget)

    def _check_token(self, name: str, authorization: bytes | None) -> None:
        tokens = self._secrets.tokens
        if tokens is not None and name not in HEALTH and not tokens.allows(authorization):
            self.count_rejection("unauthorized")
            raise InvalidToken("a token is required: metadata authorization = Bearer TOKEN")

    def _count(self, method: str, status: GrpcStatus) -> None:
        self._handler.metrics.requests["grpc", method, status.name] += 1
