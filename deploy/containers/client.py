"""A small client of the Open Inference Protocol v2 (binary tensors over HTTP), for our own checks of a container.

Knows the wire, nothing of data sets. Users take tritonclient or any other client of the protocol.
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

ToldT = TypeVar("ToldT")
NONE = Credentials()
HEADER_LENGTH = "Inference-Header-Content-Length"
UNTRUSTED = "its certificate is not trusted here"


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]


class _Page(msgspec.Struct):
    """What the container says of itself at `/`."""

    model: str


@dataclass(frozen=True)
class Client:
    """One connection to one model. Build it with `connected`."""

    connection: http.client.HTTPConnection
    model: str
    input: str
    output: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, height, width, channels] -> float32 logits [N, classes]; DeviceError with the server's words."""
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
    """The JSON head and the raw bytes of an infer request with one binary tensor."""
    tensor = {
        "name": name,
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    wanted = {"name": output, "parameters": {"binary_data": True}}
    return msgspec.json.encode({"inputs": [tensor], "outputs": [wanted]}), images.tobytes()


@contextmanager
def opened(url: str, timeout_s: float, shown: Credentials = NONE) -> Iterator[http.client.HTTPConnection]:
    """A connection to the server at `url`; DeviceError when nothing answers there, or stops to within the block."""
    try:
        with closing(_connection(url, timeout_s, shown)) as connection:
            yield connection
    except ssl.SSLCertVerificationError as error:
        raise DeviceError(f"{url}: {UNTRUSTED} ({error.verify_message}); name who signed it: --ca=FILE") from error
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise DeviceError(f"{url}: no answer ({why}); is the container running? docker ps") from error


def _connection(url: str, timeout_s: float, shown: Credentials) -> http.client.HTTPConnection:
    place = urlsplit(url)
    if place.scheme == "https":
        return http.client.HTTPSConnection(place.netloc, timeout=timeout_s, context=shown.context())
    return http.client.HTTPConnection(place.netloc, timeout=timeout_s)


def asked(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of a GET."""
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read()


@contextmanager
def connected(url: str, model: str, timeout_s: float = 60.0, shown: Credentials = NONE) -> Iterator[Client]:
    """A client of `model` on the server at `url`; DeviceError when it does not serve that."""
    headers = shown.headers()
    with opened(url, timeout_s, shown) as connection:
        metadata = _told(connection, f"/v2/models/{model}", _Metadata, headers)
        yield Client(connection, model, metadata.inputs[0].name, metadata.outputs[0].name, headers)


def served_model(url: str, shown: Credentials = NONE) -> str:
    """The name of the one model that the container at `url` serves."""
    with opened(url, 10, shown) as connection:
        return _told(connection, "/", _Page, shown.headers()).model


def _told(connection: http.client.HTTPConnection, path: str, kind: type[ToldT], headers: Mapping[str, str]) -> ToldT:
    status, content = asked(connection, path, headers)
    if status != http.HTTPStatus.OK:
        raise DeviceError(f"GET {path}: {status} {content[:300].decode(errors='replace')}")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise DeviceError(f"GET {path}: not a container of this toolchain ({error}); check the address") from error
