"""The methods of inference.GRPCInferenceService that answer at once: a message in, a message out. Knows no HTTP/2."""

from collections.abc import Callable
from typing import Any

import msgspec

from deploy.runtime.grpc.convert import message_from
from deploy.runtime.grpc.messages import message_classes
from deploy.runtime.grpc.status import UnknownMethod, UnknownModel
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.protocol import metadata, repository, shared_memory
from deploy.runtime.protocol.statistics import statistics
from deploy.runtime.scheduling.service import SchedulingOptions
from toolchain.errors import RequestError

MethodHandler = Callable[[Any, bool], Any]  # the message, and whether its client is on this host; ToolchainError
HEALTH = ("ServerLive", "ServerReady", "ModelReady")  # open to everyone, as over HTTP


class GrpcMethods:
    """Everything but inference itself."""

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
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._refuse_change,
            "RepositoryModelUnload": self._refuse_change,
            "SystemSharedMemoryStatus": self._regions,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            # clients call these too when they end; there are no regions of this kind
            "CudaSharedMemoryStatus": self._empty_reply("CudaSharedMemoryStatusResponse"),
            "CudaSharedMemoryUnregister": self._empty_reply("CudaSharedMemoryUnregisterResponse"),
        }

    def _check_model(self, name: str, version: str) -> None:
        if words := metadata.unknown_model_text(self._handler.bundle.manifest, name, version):
            raise UnknownModel(words)

    def _live(self, _message: Any, _is_local: bool) -> Any:
        return self._types["ServerLiveResponse"](live=True)

    def _ready(self, _message: Any, _is_local: bool) -> Any:
        return self._types["ServerReadyResponse"](ready=self._handler.health.ready)

    def _model_ready(self, message: Any, _is_local: bool) -> Any:
        self._check_model(message.name, message.version)
        return self._types["ModelReadyResponse"](ready=self._handler.health.ready)

    def _server(self, _message: Any, _is_local: bool) -> Any:
        return message_from(self._types["ServerMetadataResponse"], metadata.server_metadata())

    def _model(self, message: Any, _is_local: bool) -> Any:
        self._check_model(message.name, message.version)
        return message_from(
            self._types["ModelMetadataResponse"], metadata.model_metadata(self._handler.bundle.manifest)
        )

    def _config(self, message: Any, _is_local: bool) -> Any:
        self._check_model(message.name, message.version)
        found = metadata.model_config(self._handler.bundle.manifest, self._options)
        return self._types["ModelConfigResponse"](config=message_from(self._types["ModelConfig"], found))

    def _index(self, message: Any, _is_local: bool) -> Any:
        why = self._handler.health.why_not_ready
        found = repository.model_index(self._handler.bundle.manifest, why, message.ready)
        return message_from(self._types["RepositoryIndexResponse"], {"models": found})

    def _refuse_change(self, _message: Any, _is_local: bool) -> Any:
        raise UnknownMethod(repository.fixed_model_text(self._handler.bundle.manifest))

    def _statistics(self, message: Any, _is_local: bool) -> Any:
        if message.name:
            self._check_model(message.name, message.version)
        found = statistics(self._handler.bundle.manifest, self._handler.metrics)
        return message_from(self._types["ModelStatisticsResponse"], found)

    def _empty_reply(self, kind: str) -> MethodHandler:
        return lambda _message, _is_local: self._types[kind]()

    def _regions(self, message: Any, is_local: bool) -> Any:
        regions = self._shared_regions(is_local).status(message.name or None)
        fields = {region.name: msgspec.structs.asdict(region) for region in regions}
        return self._types["SystemSharedMemoryStatusResponse"](regions=fields)

    def _register(self, message: Any, is_local: bool) -> Any:
        self._shared_regions(is_local).register(message.name, message.key, message.offset, message.byte_size)
        return self._types["SystemSharedMemoryRegisterResponse"]()

    def _unregister(self, message: Any, is_local: bool) -> Any:
        self._shared_regions(is_local).unregister(message.name or None)
        return self._types["SystemSharedMemoryUnregisterResponse"]()

    def _shared_regions(self, is_local: bool) -> shared_memory.SharedRegions:
        if not shared_memory.is_allowed(self._shared, is_local):
            raise RequestError(shared_memory.refusal_text(self._shared))
        return self._handler.regions
