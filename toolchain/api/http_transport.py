"""The Open Inference Protocol v2 over HTTP: one connection, which is opened again where the server closed it."""

import http.client
import time
import weakref
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from deploy.containers.client import HEADER_LENGTH, connect_http, explain_connection
from deploy.containers.credentials import Credentials
from deploy.runtime.protocol.metadata import ModelMetadata
from deploy.runtime.protocol.top_k import TopClass
from toolchain.api.inputs import TensorPayload
from toolchain.api.transport import DEFAULT_BATCH, ServedModel, ServerBusyError, ServerReply
from toolchain.errors import DeviceError, RequestError, UsageError

ReplyRecordT = TypeVar("ReplyRecordT")
CLOSED = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
LONGEST = 300  # characters of a server's message


class _NamedModel(msgspec.Struct):
    name: str


class _BatchLimit(msgspec.Struct):
    max_batch_size: int


class _OutputTensor(msgspec.Struct):
    shape: list[int]


class _InferReply(msgspec.Struct):
    outputs: list[_OutputTensor]
    top_k: list[list[TopClass]] = []


class HttpTransport:
    """A Transport by http.client."""

    def __init__(self, url: str, credentials: Credentials, timeout_s: float) -> None:
        self._url, self._headers = url.rstrip("/"), credentials.headers()
        self._connection = connect_http(url, timeout_s, credentials)
        weakref.finalize(self, self._connection.close)  # a notebook closes no client

    def describe(self, model: str | None) -> ServedModel:
        name = model or self._find_model()
        place = f"/v2/models/{quote(name, safe='')}"
        metadata = self._read(self._ask("GET", place), ModelMetadata)
        try:
            most = self._read(self._ask("GET", f"{place}/config"), _BatchLimit).max_batch_size
        except DeviceError:  # the protocol itself has no configuration; Triton's extension has
            most = DEFAULT_BATCH
        given, wanted = metadata.inputs[0], metadata.outputs[0]
        release = metadata.versions[0] if metadata.versions else ""
        return ServedModel(
            metadata.name, release, given.name, wanted.name, given.shape[1:], wanted.shape[-1], max(most, 1)
        )

    def infer(self, model: ServedModel, payload: TensorPayload, top_k: int) -> ServerReply:
        tensor = {
            "name": model.input,
            "datatype": payload.datatype,
            "shape": payload.shape,
            "parameters": {"binary_data_size": len(payload.content)},
        }
        wanted = {"name": model.output, "parameters": {"binary_data": True}}
        head = msgspec.json.encode({"inputs": [tensor], "outputs": [wanted], "parameters": {"top_k": top_k}})
        headers = {HEADER_LENGTH: str(len(head))}
        path = f"/v2/models/{quote(model.name, safe='')}/infer"
        reply, content = self._exchange("POST", path, head + payload.content, headers)
        end = int(reply.headers[HEADER_LENGTH])
        found = self._read(content[:end], _InferReply)
        return ServerReply(np.frombuffer(content[end:], np.float32).reshape(found.outputs[0].shape), found.top_k)

    def is_ready(self) -> bool:
        try:
            self._ask("GET", "/v2/health/ready")
        except DeviceError:
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def _find_model(self) -> str:
        models = self._read(self._ask("POST", "/v2/repository/index", b"{}"), list[_NamedModel])
        if len(models) != 1:
            names = ", ".join(entry.name for entry in models) or "none"
            raise UsageError(f"{self._url} serves {len(models)} models ({names}); name one: Client(url, model=NAME)")
        return models[0].name

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return self._exchange(method, path, body, {})[1]

    def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        with explain_connection(self._url):
            try:
                reply, content = self._send(method, path, body, headers)
            except CLOSED:  # a server closes connections that are idle, and a request that only asks may be sent again
                self._connection.close()
                reply, content = self._send(method, path, body, headers)
        if reply.status != HTTPStatus.OK:
            self._refuse(reply, content)
        return reply, content

    def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, path, body, {**self._headers, **headers})
        reply = self._connection.getresponse()
        return reply, reply.read()

    def _refuse(self, reply: http.client.HTTPResponse, content: bytes) -> None:
        message = f"{self._url} answered {reply.status}: {_read_message(content)}"
        wait_s = _parse_wait(reply.headers.get("Retry-After"))
        match reply.status:
            case HTTPStatus.SERVICE_UNAVAILABLE if wait_s is not None:
                raise ServerBusyError(message, wait_s)
            case HTTPStatus.BAD_REQUEST:
                raise RequestError(message)
            case HTTPStatus.UNAUTHORIZED:
                raise UsageError(f"{message}; give one: Client(url, token=TOKEN)")
            case _:
                raise DeviceError(message)

    def _read(self, content: bytes, kind: type[ReplyRecordT]) -> ReplyRecordT:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise DeviceError(
                f"{self._url}: no server of the Open Inference Protocol ({error}); check the address"
            ) from error


def _read_message(content: bytes) -> str:
    try:
        document: Any = msgspec.json.decode(content)
        text = str(document["error"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        text = content.decode(errors="replace")
    return " ".join(text.split())[:LONGEST]


def _parse_wait(text: str | None) -> float | None:
    """Seconds, from a number of them or a date (RFC 9110, 10.2.3); None where there is neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
