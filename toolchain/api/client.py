"""`toolchain.Client`: a server's answers in Python, over HTTP or gRPC."""

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from toolchain.api.inputs import ImageFile, Pictures, PixelArray, encode_pictures, split_pictures
from toolchain.api.prediction import Prediction
from toolchain.api.transport import ServedModel, ServerReply, Transport, call_patiently
from toolchain.errors import UsageError

if TYPE_CHECKING:
    from deploy.containers.credentials import Credentials
    from deploy.runtime.protocol.top_k import TopClass

CallT = TypeVar("CallT")
SCHEMES = ("http", "https", "grpc", "grpcs")
RETRIES = 5


class Client:
    """A client of a server of this toolchain, or of another of the Open Inference Protocol v2 that takes image files.

    One connection, for one thread at a time. A server that is busy (503 with Retry-After; over gRPC UNAVAILABLE with
    its pushback) is asked again when it says.

    Args:
        url: http://, https://, grpc:// or grpcs:// with HOST:PORT; gRPC needs the extra `grpc`
        model: the model's name; by default the only one there
        token: the token that the server asks for
        token_file: a file with tokens instead; the first is sent
        ca: the authority that signed the server's certificate, in PEM; by default the system's authorities
        cert: a client certificate, in PEM
        key: the private key of that certificate
        timeout_s: how long a request may take, waiting for a busy server included
        retries: how often a busy server is asked again

    Raises:
        errors.DeviceError: nothing answers there, or what answers is no such server
        errors.UsageError: a token, certificate or address that cannot be used

    Example:
        >>> client = edge.Client(server.url)
        >>> client.model == bundle.name
        True
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        token: str | None = None,
        token_file: str | PathLike[str] | None = None,
        ca: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        timeout_s: float = 60.0,
        retries: int = RETRIES,
    ) -> None:
        from deploy.containers.credentials import Credentials

        tokens, authority, own, secret = (
            None if place is None else Path(place) for place in (token_file, ca, cert, key)
        )
        self._open(url, Credentials(tokens, authority, own, secret, token=token), model, timeout_s, retries)

    def _open(self, url: str, credentials: "Credentials", model: str | None, timeout_s: float, retries: int) -> None:
        if retries < 0:
            raise UsageError(f"Client: retries={retries}: expected 0 or more")
        self._url, self._timeout_s, self._retries = url, timeout_s, retries
        self._transport = connect_transport(url, credentials, timeout_s)
        try:
            self._served: ServedModel = self._ask(lambda: self._transport.describe(model))
        except BaseException:
            self._transport.close()
            raise

    @property
    def model(self) -> str:
        """The model's name."""
        return self._served.name

    @property
    def release(self) -> str:
        """The release that serves it."""
        return self._served.release

    @overload
    def predict(self, image: ImageFile, *, top_k: int | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Pictures, *, top_k: int | None = None) -> list[Prediction]: ...
    @overload
    def predict(self, image: PixelArray, *, top_k: int | None = None) -> Any: ...
    def predict(
        self, image: ImageFile | Pictures | PixelArray, *, top_k: int | None = None
    ) -> Prediction | list[Prediction]:
        """Classify an image, or several.

        The server decodes, resizes and crops images as the recipe's [input] says; uint8 arrays of the model's own size
        are sent as they are, and floats [channels, height, width] are taken as normalized already.

        Args:
            image: a path, a file's bytes, a PIL image, or an array: uint8 [height, width, channels]; or a list of
                those, or an array of several, for a list of predictions
            top_k: how many of the best classes `probabilities` has; by default all

        Raises:
            errors.RequestError: the server does not take this image
            errors.DeviceError: it does not answer, or stays busy

        Example:
            >>> client.predict(picture).label
            'angle_000'
            >>> [found.label for found in client.predict([picture, PIL.Image.open(picture), pixels])]
            ['angle_000', 'angle_000', 'angle_000']
        """
        pictures, several = split_pictures(image)
        count = max(self._served.classes, 2) if top_k is None else top_k
        found: list[Prediction] = []
        for payload in encode_pictures(pictures, self._served.size, self._served.most):
            reply = self._ask(partial(self._transport.infer, self._served, payload, count))
            found += _read_predictions(reply)
        return found if several else found[0]

    def is_ready(self) -> bool:
        """Whether the server has passed its checks and serves.

        Example:
            >>> client.is_ready()
            True
        """
        return self._transport.is_ready()

    def close(self) -> None:
        """Close the connection.

        Example:
            >>> client.close()
        """
        self._transport.close()

    def _ask(self, call: Callable[[], CallT]) -> CallT:
        return call_patiently(call, self._retries, self._timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._url}, {self.model} {self.release})"


def open_client(url: str, credentials: "Credentials") -> Client:
    """A client with credentials that are known already."""
    client = Client.__new__(Client)
    client._open(url, credentials, None, 60.0, RETRIES)
    return client


def connect_transport(url: str, credentials: "Credentials", timeout_s: float) -> Transport:
    """UsageError for an address of another form."""
    place = urlsplit(url)
    if place.scheme not in SCHEMES or not place.netloc:
        expected = ", ".join(f"{scheme}://HOST:PORT" for scheme in SCHEMES)
        raise UsageError(f"Client: '{url}': expected one of {expected}")
    if place.scheme.startswith("grpc"):
        from toolchain.api.grpc_transport import GrpcTransport

        return GrpcTransport(place.netloc, place.scheme == "grpcs", credentials, timeout_s)
    from toolchain.api.http_transport import HttpTransport

    return HttpTransport(url, credentials, timeout_s)


def _read_predictions(reply: ServerReply) -> list[Prediction]:
    tops = reply.top or [()] * len(reply.scores)
    return [_read_prediction(scores, top) for scores, top in zip(reply.scores, tops, strict=True)]


def _read_prediction(scores: NDArray[np.float32], top: "Sequence[TopClass]") -> Prediction:
    """A server that names no classes says which by its scores alone."""
    best = top[0].index if top else int(scores.argmax())
    label = top[0].label if top and top[0].label else str(best)
    named = {entry.label or str(entry.index): entry.probability for entry in top}
    probabilities = {name: share for name, share in named.items() if isinstance(share, float)}
    return Prediction(label, best, probabilities.get(label), probabilities, scores)
