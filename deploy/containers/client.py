"""A small Open Inference Protocol v2 client (binary tensors over HTTP) for the toolchain's own checks of a container.

Users use toolchain.Client, which stands on the connection here, tritonclient or any other client of the protocol.
"""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.containers.credentials import Credentials
from toolchain.errors import DeviceError
from toolchain.records.output import SOFTMAX, OutputKind

DocumentT = TypeVar("DocumentT")
NO_CREDENTIALS = Credentials()
HEADER_LENGTH = "Inference-Header-Content-Length"
UNTRUSTED = "its certificate is not trusted here"


class _TensorMetadata(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _ModelMetadata(msgspec.Struct):
    name: str
    inputs: list[_TensorMetadata]
    outputs: list[_TensorMetadata]


class _ServerPage(msgspec.Struct):
    """The container's answer at `/`; older ones say nothing of their output."""

    model: str
    output: OutputKind = SOFTMAX


@dataclass(frozen=True)
class ModelConnection:
    """One connection to one model. Create it with connect_client()."""

    connection: http.client.HTTPConnection
    model: str
    input: str
    output: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, height, width, channels] -> float32 logits [N, classes]; DeviceError carries the server's
        message."""
        head, payload = request_parts(self.input, self.output, images)
        headers = {**self.headers, HEADER_LENGTH: str(len(head))}
        self.connection.request("POST", f"/v2/models/{self.model}/infer", body=head + payload, headers=headers)
        reply = self.connection.getresponse()
        content = reply.read()
        if reply.status != http.HTTPStatus.OK:
            raise DeviceError(f"the server answered {reply.status}: {content[:300].decode(errors='replace')}")
        at = int(reply.headers[HEADER_LENGTH])
        shape = msgspec.json.decode(content[:at])["outputs"][0]["shape"]
        return np.frombuffer(content[at:], np.float32).reshape(shape)


def request_parts(name: str, output: str, images: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """(JSON header, raw bytes) of an inference request with one binary tensor."""
    tensor = {
        "name": name,
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    requested = {"name": output, "parameters": {"binary_data": True}}
    return msgspec.json.encode({"inputs": [tensor], "outputs": [requested]}), images.tobytes()


@contextmanager
def open_connection(
    url: str, timeout_s: float, credentials: Credentials = NO_CREDENTIALS
) -> Iterator[http.client.HTTPConnection]:
    """A connection to the server at `url`; DeviceError when nothing answers there, or when it fails inside the
    block."""
    with explain_connection(url), closing(connect_http(url, timeout_s, credentials)) as connection:
        yield connection


@contextmanager
def explain_connection(url: str) -> Iterator[None]:
    """DeviceError for a connection that fails inside the block."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise DeviceError(f"{url}: {UNTRUSTED} ({error.verify_message}); name its authority: --ca=FILE") from error
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise DeviceError(f"{url}: no answer ({why}); is the container running? docker ps") from error


def connect_http(url: str, timeout_s: float, credentials: Credentials) -> http.client.HTTPConnection:
    """Connects with the first request."""
    place = urlsplit(url)
    if place.scheme == "https":
        return http.client.HTTPSConnection(place.netloc, timeout=timeout_s, context=credentials.context())
    return http.client.HTTPConnection(place.netloc, timeout=timeout_s)


def get(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """(status, body) of a GET request."""
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read()


@contextmanager
def connect_client(
    url: str, model: str, timeout_s: float = 60.0, credentials: Credentials = NO_CREDENTIALS
) -> Iterator[ModelConnection]:
    """A client of `model` on the server at `url`; DeviceError when the server does not serve it."""
    headers = credentials.headers()
    with open_connection(url, timeout_s, credentials) as connection:
        metadata = _get_json(connection, f"/v2/models/{model}", _ModelMetadata, headers)
        yield ModelConnection(connection, model, metadata.inputs[0].name, metadata.outputs[0].name, headers)


def served_model(url: str, credentials: Credentials = NO_CREDENTIALS) -> str:
    """The name of the one model that the container at `url` serves."""
    with open_connection(url, 10, credentials) as connection:
        return _get_json(connection, "/", _ServerPage, credentials.headers()).model


def served_output(url: str, credentials: Credentials = NO_CREDENTIALS) -> OutputKind:
    """What the outputs of that model say."""
    with open_connection(url, 10, credentials) as connection:
        return _get_json(connection, "/", _ServerPage, credentials.headers()).output


def _get_json(
    connection: http.client.HTTPConnection, path: str, kind: type[DocumentT], headers: Mapping[str, str]
) -> DocumentT:
    status, content = get(connection, path, headers)
    if status != http.HTTPStatus.OK:
        raise DeviceError(f"GET {path}: {status} {content[:300].decode(errors='replace')}")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise DeviceError(f"GET {path}: not a server of this toolchain ({error}); check the address") from error
