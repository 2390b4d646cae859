"""inference.GRPCInferenceService on a port of its own, by grpcio: the same answers as over HTTP, from the same
InferenceHandler. A call is one task on the event loop. Imported only where gRPC is switched on.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import msgspec
from grpc import aio

from deploy.runtime.grpc.convert import message_from
from deploy.runtime.grpc.credentials import server_credentials
from deploy.runtime.grpc.infer import GrpcAdapter, GrpcContext, InvalidToken, UnknownModel, is_local, status_of
from deploy.runtime.grpc.messages import SERVICE, message_classes, parse_message
from deploy.runtime.http.access import Secrets
from deploy.runtime.http.limits import Limits
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.protocol import metadata, shared_memory
from deploy.runtime.protocol.statistics import statistics
from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.service import SchedulingOptions
from deploy.runtime.security.tls import TlsFiles
from toolchain.errors import DeviceError, RequestError, ToolchainError

MethodHandler = Callable[[Any, GrpcContext], Awaitable[Any]]
RESTART_POLL_S = 0.25  # the longest gap after a call that ended grpcio's server
STREAM_WINDOW = 32  # requests of one stream in progress at a time


class GrpcMethods:
    """The service's methods: a message and the call's context in, a message out; ToolchainError."""

    def __init__(
        self, handler: InferenceHandler, options: SchedulingOptions, shared: shared_memory.SharedMemoryPolicy
    ) -> None:
        self._handler, self._options, self._shared, self._types = handler, options, shared, message_classes()

    def handlers(self) -> dict[str, MethodHandler]:
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server,
            "ModelMetadata": self._model,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "ModelInfer": self.infer,
            "SystemSharedMemoryStatus": self._regions,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            # clients call these too when they end; there are no regions of this kind
            "CudaSharedMemoryStatus": self._empty_reply("CudaSharedMemoryStatusResponse"),
            "CudaSharedMemoryUnregister": self._empty_reply("CudaSharedMemoryUnregisterResponse"),
        }

    async def infer(self, message: Any, context: GrpcContext, method: str = "ModelInfer") -> Any:
        self._check_model(message.model_name, message.model_version)
        talk = GrpcAdapter(self._handler, message, context, self._shared, method)
        self._handler.handle(talk)
        outcome = await talk.reply
        if isinstance(outcome, ToolchainError):
            raise outcome
        return outcome

    def _check_model(self, name: str, version: str) -> None:
        if words := metadata.unknown_model_text(self._handler.bundle.manifest, name, version):
            raise UnknownModel(words)

    async def _live(self, _message: Any, _context: GrpcContext) -> Any:
        return self._types["ServerLiveResponse"](live=True)

    async def _ready(self, _message: Any, _context: GrpcContext) -> Any:
        return self._types["ServerReadyResponse"](ready=self._handler.health.ready)

    async def _model_ready(self, message: Any, _context: GrpcContext) -> Any:
        self._check_model(message.name, message.version)
        return self._types["ModelReadyResponse"](ready=self._handler.health.ready)

    async def _server(self, _message: Any, _context: GrpcContext) -> Any:
        return message_from(self._types["ServerMetadataResponse"], metadata.server_metadata())

    async def _model(self, message: Any, _context: GrpcContext) -> Any:
        self._check_model(message.name, message.version)
        return message_from(
            self._types["ModelMetadataResponse"], metadata.model_metadata(self._handler.bundle.manifest)
        )

    async def _config(self, message: Any, _context: GrpcContext) -> Any:
        self._check_model(message.name, message.version)
        found = metadata.model_config(self._handler.bundle.manifest, self._options)
        return self._types["ModelConfigResponse"](config=message_from(self._types["ModelConfig"], found))

    async def _statistics(self, message: Any, _context: GrpcContext) -> Any:
        if message.name:
            self._check_model(message.name, message.version)
        found = statistics(self._handler.bundle.manifest, self._handler.metrics)
        return message_from(self._types["ModelStatisticsResponse"], found)

    def _empty_reply(self, kind: str) -> MethodHandler:
        async def reply_empty(_message: Any, _context: GrpcContext) -> Any:
            return self._types[kind]()

        return reply_empty

    async def _regions(self, message: Any, context: GrpcContext) -> Any:
        regions = self._shared_regions(context).status(message.name or None)
        fields = {region.name: msgspec.structs.asdict(region) for region in regions}
        return self._types["SystemSharedMemoryStatusResponse"](regions=fields)

    async def _register(self, message: Any, context: GrpcContext) -> Any:
        self._shared_regions(context).register(message.name, message.key, message.offset, message.byte_size)
        return self._types["SystemSharedMemoryRegisterResponse"]()

    async def _unregister(self, message: Any, context: GrpcContext) -> Any:
        self._shared_regions(context).unregister(message.name or None)
        return self._types["SystemSharedMemoryUnregisterResponse"]()

    def _shared_regions(self, context: GrpcContext) -> shared_memory.SharedRegions:
        if not shared_memory.is_allowed(self._shared, is_local(context)):
            raise RequestError(shared_memory.refusal_text(self._shared))
        return self._handler.regions


class GrpcServer:
    """start(), then stop() with the seconds that calls in flight may still take."""

    def __init__(
        self,
        handler: InferenceHandler,
        options: SchedulingOptions,
        shared: shared_memory.SharedMemoryPolicy,
        limits: Limits,
        secrets: Secrets,
        tls: TlsFiles | None,
    ) -> None:
        self._handler, self._methods, self._limits = handler, GrpcMethods(handler, options, shared), limits
        self._secrets, self._tls = secrets, tls
        self._ended: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Start listening and return the port; DeviceError when it is taken."""
        self._host = f"[{host}]" if ":" in host else host
        self._server, found = self._bind(port)
        await self._server.start()
        self._supervisor = asyncio.create_task(self._supervise(found))
        return found

    async def _supervise(self, port: int) -> None:
        """Restart grpcio's server when a call has ended it: one whose path is not UTF-8 does (1.85, and its main branch
        then). The ended server still answers the calls that it has."""
        while True:
            try:
                while await self._server.wait_for_termination(RESTART_POLL_S):
                    pass
                return
            except Exception as error:
                self._handler.log.write("warning", "gRPC begins again", reason=repr(error)[:300])
            ending = asyncio.create_task(self._server.stop(self._handler.timeout_s))
            self._ended.add(ending)
            ending.add_done_callback(self._ended.discard)
            await self._restart(port)

    async def _restart(self, port: int) -> None:
        while True:
            try:
                self._server, _ = self._bind(port)
            except DeviceError:  # the previous server has not released the port yet
                await asyncio.sleep(RESTART_POLL_S)
            else:
                await self._server.start()
                return

    def _bind(self, port: int) -> tuple[aio.Server, int]:
        server = aio.server(
            options=[
                ("grpc.max_receive_message_length", self._limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # otherwise a taken port would be shared silently
                ("grpc.max_connection_idle_ms", int(self._limits.idle_s * 1e3)),
                ("grpc.keepalive_time_ms", int(self._limits.idle_s * 1e3)),
                ("grpc.keepalive_timeout_ms", int(self._limits.sender_s * 1e3)),
                ("grpc.max_metadata_size", self._limits.head_bytes),
            ],
            maximum_concurrent_rpcs=None,
        )
        server.add_generic_rpc_handlers((self._handlers(),))
        place = f"{self._host}:{port}"
        try:
            found: int = (
                server.add_secure_port(place, server_credentials(self._tls))
                if self._tls
                else server.add_insecure_port(place)
            )
        except RuntimeError as error:
            raise DeviceError(f"cannot listen on {place} for gRPC; choose another: --grpc-port or GRPC_PORT") from error
        return server, found

    async def stop(self, grace_s: float) -> None:
        self._supervisor.cancel()
        await self._server.stop(grace_s)

    def _handlers(self) -> grpc.GenericRpcHandler:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(name, call), response_serializer=lambda message: message.SerializeToString()
            )
            for name, call in self._methods.handlers().items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream, response_serializer=lambda message: message.SerializeToString()
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _unary(self, name: str, call: MethodHandler) -> Any:
        async def handle_call(content: bytes, context: GrpcContext) -> Any:
            try:
                self._check_token(name, context)
                reply = await call(parse_message(f"{name}Request", content), context)
            except ToolchainError as error:
                self._count(name, status_of(error))
                if isinstance(error, Unavailable):  # gRPC proposal A6: when clients may retry
                    context.set_trailing_metadata((("grpc-retry-pushback-ms", str(error.retry_after_s * 1000)),))
                await context.abort(status_of(error), str(error))
            self._count(name, grpc.StatusCode.OK)
            return reply

        return handle_call

    def _check_token(self, name: str, context: GrpcContext) -> None:
        """Health is open to everyone, as over HTTP."""
        tokens = self._secrets.tokens
        if tokens is None or name in ("ServerLive", "ServerReady", "ModelReady"):
            return
        shown = dict(context.invocation_metadata() or ()).get("authorization")
        if not tokens.allows(shown.encode() if isinstance(shown, str) else shown):
            self._handler.metrics.rejections["unauthorized"] += 1
            raise InvalidToken("a token is required: metadata authorization = Bearer TOKEN")

    def _count(self, method: str, status: grpc.StatusCode) -> None:
        self._handler.metrics.requests["grpc", method, status.name] += 1

    async def _stream(self, contents: AsyncIterator[bytes], context: GrpcContext) -> AsyncIterator[Any]:
        """Replies in the order of the requests, several of which are in progress at a time; an error ends only its
        request."""
        try:
            self._check_token("ModelStreamInfer", context)
        except InvalidToken as error:
            self._count("ModelStreamInfer", status_of(error))
            await context.abort(status_of(error), str(error))
        waiting: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue(STREAM_WINDOW)

        async def take() -> None:
            async for content in contents:
                await waiting.put(asyncio.create_task(self._stream_reply(content, context)))
            await waiting.put(None)

        taking = asyncio.create_task(take())
        try:
            while (task := await waiting.get()) is not None:
                yield await task
        finally:
            taking.cancel()

    async def _stream_reply(self, content: bytes, context: GrpcContext) -> Any:
        reply, asked = message_classes()["ModelStreamInferResponse"], ""
        try:
            message = parse_message("ModelInferRequest", content)
            asked = message.id
            found = reply(infer_response=await self._methods.infer(message, context, "ModelStreamInfer"))
            self._count("ModelStreamInfer", grpc.StatusCode.OK)
        except ToolchainError as error:
            self._count("ModelStreamInfer", status_of(error))
            found = reply(error_message=str(error))
            found.infer_response.id = asked
        return found
