"""`toolchain.Image`: a container image on this machine's engine."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.api.display import show_progress

if TYPE_CHECKING:
    from toolchain.api.server import Server


class Image:
    """An image on this machine's Docker Engine, by its tag. `bundle.image()` builds one.

    Args:
        tag: the image's name

    Example:
        >>> edge.Image("edge-grey28:1-openvino").tag
        'edge-grey28:1-openvino'
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag

    def run(
        self,
        port: int = 8080,
        *,
        grpc_port: int | None = None,
        public: bool = False,
        secrets: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        name: str | None = None,
        cpus: float | None = None,
        skip_gate: bool = False,
        gate_minutes: float = 5.0,
    ) -> "Server":
        """Start a container and wait until it answers.

        What serves on that port is replaced only once the new one is ready and passed the gate against it; if either
        fails, it still serves. One of the same model on another port stays.

        Args:
            port: the HTTP port on this machine; 0 for any free port
            grpc_port: the gRPC port on this machine; 0 for any free port; by default only HTTP is served
            public: publish the ports on all interfaces; by default only clients on this machine reach them
            secrets: a folder with tls.crt and tls.key, client-ca.crt, tokens, or some of them
            cert: the client certificate, if the folder has a client-ca.crt
            key: the private key of that certificate
            name: the container's name, by default the image's; an older container of that name is replaced
            cpus: the CPU quota, in cores
            skip_gate: replace what serves although it may be slower or less accurate
            gate_minutes: the limit for each of at most two runs of the gate

        Raises:
            errors.DockerError: no such image, a port in use, a container that died

        Example:
            >>> server = image.run(port=0)
            >>> server.url.startswith("http://127.0.0.1:")
            True
        """
        from deploy.containers.publishing import parse_endpoint
        from deploy.containers.serve import run_server
        from deploy.gate.replacement import replacement_gate
        from toolchain.api.server import Server

        endpoint = parse_endpoint(port, grpc_port, _as_path(secrets), _as_path(cert), _as_path(key), public)
        with show_progress():
            gate = replacement_gate(skip_gate, gate_minutes)
            return Server(run_server(self.tag, endpoint, name, cpus=cpus, gate=gate), endpoint.credentials)

    def __repr__(self) -> str:
        return f"Image({self.tag!r})"


def _as_path(place: str | PathLike[str] | None) -> Path | None:
    return None if place is None else Path(place)
