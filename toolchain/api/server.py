"""`toolchain.Server`: a container that serves on this machine."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from toolchain.api.inputs import ImageFile, Pictures, PixelArray
from toolchain.api.prediction import Prediction

if TYPE_CHECKING:
    from deploy.containers.credentials import Credentials
    from deploy.containers.serve import ServerContainer
    from toolchain.api.client import Client


class Server:
    """A container that `image.run()` started. As a context manager it is stopped at the end of the block.

    Attributes:
        name: the container's name
        url: where it answers over HTTP
        grpc: HOST:PORT for gRPC, empty where that is not published
        cold_start_s: seconds from its start to its first answer; None when it was running already

    Example:
        >>> server = image.run(port=0)  # it serves already: the same container
        >>> server.cold_start_s is None
        True
    """

    def __init__(self, container: "ServerContainer", credentials: "Credentials") -> None:
        self.name, self.url, self.grpc = container.name, container.url, container.grpc
        self.cold_start_s = container.cold_start_s
        self._credentials = credentials
        self._client: Client | None = None

    @property
    def client(self) -> "Client":
        """A client of it, with the credentials that its secrets ask for."""
        if self._client is None:
            from toolchain.api.client import open_client

            self._client = open_client(self.url, self._credentials)
        return self._client

    @overload
    def predict(self, image: ImageFile, *, top_k: int | None = None) -> Prediction: ...
    @overload
    def predict(self, image: Pictures, *, top_k: int | None = None) -> list[Prediction]: ...
    @overload
    def predict(self, image: PixelArray, *, top_k: int | None = None) -> Any: ...
    def predict(
        self, image: ImageFile | Pictures | PixelArray, *, top_k: int | None = None
    ) -> Prediction | list[Prediction]:
        """Classify an image, or several: see `edge.Client.predict`.

        Example:
            >>> server.predict(picture).label
            'angle_000'
        """
        return self.client.predict(image, top_k=top_k)

    def stop(self) -> None:
        """Stop and remove the container, after the requests in flight have finished.

        Example:
            >>> server.stop()
        """
        from deploy.containers.serve import stop_server

        if self._client is not None:
            self._client.close()
            self._client = None
        stop_server(self.name)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Server({self.name}, {self.url}{f', gRPC {self.grpc}' if self.grpc else ''})"
