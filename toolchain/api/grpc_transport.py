"""The Open Inference Protocol v2 over gRPC, by grpcio (the extra `grpc`) and the server's own messages."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.containers.credentials import Credentials
from deploy.runtime.grpc.messages import SERVICE, message_classes
from deploy.runtime.protocol.top_k import TopClass
from toolchain.api.inputs import TensorPayload
from toolchain.api.transport import DEFAULT_BATCH, ServedModel, ServerBusyError, ServerReply
from toolchain.errors import DeviceError, RequestError, ToolchainError, UsageError

PUSHBACK = "grpc-retry-pushback-ms"
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class GrpcTransport:
    """A Transport by grpcio. address: HOST:PORT; secure: by TLS."""

    def __init__(self, address: str, secure: bool, credentials: Credentials, timeout_s: float) -> None:
        try:
            import grpc
        except ModuleNotFoundError as error:
            raise UsageError("grpc: grpcio is not installed; pip install 'edge-toolchain[grpc]'") from error
        self._grpc, self._address, self._timeout_s = grpc, address, timeout_s
        self._metadata = tuple((key.lower(), value) for key, value in credentials.headers().items())
        self._types = message_classes()
        if not secure:
            self._channel = grpc.insecure_channel(address, UNLIMITED)
            return
        credentials.context()  # UsageError for files that cannot be used
        files = (credentials.ca, credentials.key, credentials.cert)
        tls = grpc.ssl_channel_credentials(*(_read_file(file) for file in files))
        self._channel = grpc.secure_channel(address, tls, UNLIMITED)

    def describe(self, model: str | None) -> ServedModel:
        name = model or self._find_model()
        metadata = self._call("ModelMetadata", name=name)
        try:
            most = self._call("ModelConfig", name=name).config.max_batch_size
        except DeviceError:  # the protocol itself has no configuration; Triton's extension has
            most = DEFAULT_BATCH
        given, wanted = metadata.inputs[0], metadata.outputs[0]
        release = metadata.versions[0] if metadata.versions else ""
        size = tuple(given.shape[1:])
        return ServedModel(metadata.name, release, given.name, wanted.name, size, wanted.shape[-1], max(most, 1))

    def infer(self, model: ServedModel, payload: TensorPayload, top_k: int) -> ServerReply:
        request = self._types["ModelInferRequest"](model_name=model.name, raw_input_contents=[payload.content])
        request.inputs.add(name=model.input, datatype=payload.datatype, shape=payload.shape)
        request.outputs.add(name=model.output)
        request.parameters["top_k"].int64_param = top_k
        reply = self._send("ModelInfer", request)
        shape = list(reply.outputs[0].shape)
        scores = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(shape)
        text = reply.parameters["top_k"].string_param if "top_k" in reply.parameters else "[]"
        return ServerReply(scores, msgspec.json.decode(text, type=list[list[TopClass]]))

    def is_ready(self) -> bool:
        try:
            return bool(self._call("ServerReady").ready)
        except DeviceError:
            return False

    def close(self) -> None:
        self._channel.close()

    def _find_model(self) -> str:
        names = [model.name for model in self._call("RepositoryIndex").models]
        if len(names) != 1:
            listed = ", ".join(names) or "none"
            raise UsageError(
                f"{self._address} serves {len(names)} models ({listed}); name one: Client(url, model=NAME)"
            )
        return str(names[0])

    def _call(self, method: str, **fields: object) -> Any:
        return self._send(method, self._types[f"{method}Request"](**fields))

    def _send(self, method: str, request: Any) -> Any:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._types[f"{method}Response"].FromString,
        )
        try:
            return call(request, timeout=self._timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise self._explain(error) from error

    def _explain(self, error: Any) -> ToolchainError:
        codes, code = self._grpc.StatusCode, error.code()
        message = f"{self._address} answered {code.name}: {' '.join(str(error.details()).split())}"
        waits = [value for key, value in error.trailing_metadata() or () if key == PUSHBACK]
        if code == codes.UNAVAILABLE and waits:
            return ServerBusyError(message, int(waits[0]) / 1000)
        if code == codes.INVALID_ARGUMENT:
            return RequestError(message)
        if code == codes.UNAUTHENTICATED:
            return UsageError(f"{message}; give one: Client(url, token=TOKEN)")
        return DeviceError(message)


def _read_file(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
