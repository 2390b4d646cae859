"""A container's published endpoint: its ports, its secrets, and the credentials that the toolchain uses for it.

Reads an engine's description of a container (`attrs`); does not call an engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from docker.types import Mount

from deploy.containers.credentials import Credentials
from deploy.containers.secrets import CERT, CLIENT_CA, SECRETS_PATH, TOKENS, VARIABLES, SecretFolder, read_secret_folder
from deploy.runtime.http.access import check_port
from toolchain.errors import UsageError

HTTP, GRPC = "8080/tcp", "8081/tcp"
LOOPBACK, IPV6_LOOPBACK = "127.0.0.1", "::1"
IPV6_ADDRESSES = Path("/proc/net/if_inet6")
Attrs = Mapping[str, Any]
HostPorts = list[tuple[str, int | None]]


@dataclass(frozen=True)
class PublishedEndpoint:
    """port, grpc_port: on this machine, 0: any free port; grpc_port None: not published. cert, key: the client
    certificate that `toolchain run` uses for its readiness check. is_public: on all interfaces, not only for clients
    on this machine. Create it with parse_endpoint(), which validates."""

    port: int
    grpc_port: int | None = None
    secrets: SecretFolder | None = None
    cert: Path | None = None
    key: Path | None = None
    is_public: bool = False

    @property
    def ports(self) -> dict[str, int | HostPorts | None]:
        """For the engine's API: None is any free port."""
        ports = {HTTP: self._bind(self.port)}
        return ports if self.grpc_port is None else {**ports, GRPC: self._bind(self.grpc_port)}

    @property
    def exposure(self) -> str:
        """Who reaches the server, in a line."""
        if not self.is_public:
            return "only this machine reaches it; for others: --public"
        if self.unauthenticated is None:
            return "open without tokens on all interfaces: whoever reaches this machine can use it; close it: --secrets"
        return "published on all interfaces, closed by --secrets"

    @property
    def mounts(self) -> list[Mount]:
        return [secrets_mount(str(self.secrets.folder))] if self.secrets else []

    @property
    def environment(self) -> dict[str, str]:
        return self.secrets.environment if self.secrets else {}

    @property
    def credentials(self) -> Credentials:
        return Credentials(self._file(TOKENS), None, self.cert, self.key, self._file(CERT))

    @property
    def unauthenticated(self) -> Credentials | None:
        """The credentials of a client without a token or certificate; None when the server is open to everyone."""
        is_closed = self._file(TOKENS) or self._file(CLIENT_CA)
        return Credentials(server_cert=self._file(CERT)) if is_closed else None

    @property
    def is_authorized(self) -> bool:
        """Whether the toolchain has every credential that the server requires."""
        return self._file(CLIENT_CA) is None or self.cert is not None

    @property
    def curl_flags(self) -> list[str]:
        """For a shell. The address is a loopback address, which no certificate names, so curl must not verify it."""
        tokens, flags = self._file(TOKENS), ["--insecure"] if self._file(CERT) else []
        if self._file(CLIENT_CA):
            flags += [f"--cert {quote(str(self.cert or 'FILE'))} --key {quote(str(self.key or 'FILE'))}"]
        if tokens:
            flags += [f"-H \"Authorization: Bearer $(grep -m1 '^[^#]' {quote(str(tokens))})\""]
        return flags

    def _bind(self, port: int) -> int | HostPorts | None:
        """An engine gives each address another free port, so that one has the first address only."""
        if self.is_public:
            return port or None
        hosts = (LOOPBACK, IPV6_LOOPBACK) if port and _has_ipv6_loopback() else (LOOPBACK,)
        return [(host, port or None) for host in hosts]

    def _file(self, name: str) -> Path | None:
        return self.secrets.file(name) if self.secrets else None


def parse_endpoint(
    port: int,
    grpc_port: int | None,
    secrets: Path | None,
    cert: Path | None,
    key: Path | None,
    is_public: bool = False,
) -> PublishedEndpoint:
    """The endpoint that flags describe; UsageError for impossible values, before anything is started."""
    check_port("--port", port)
    check_port("--grpc-port", grpc_port)
    if port and port == grpc_port:
        raise UsageError(f"--grpc-port {port}: same as --port; choose another")
    folder = read_secret_folder(secrets) if secrets else None
    endpoint = PublishedEndpoint(port, grpc_port, folder, cert, key, is_public)
    if (cert or key) and not (endpoint.secrets and endpoint.secrets.file(CLIENT_CA)):
        raise UsageError(f"--cert, --key: used only when --secrets has a {CLIENT_CA}; add one, or omit them")
    if endpoint.secrets:
        endpoint.credentials.context()  # raises for unusable files
    return endpoint


def http_url(attrs: Attrs) -> str:
    scheme = "https" if "TLS_CERT" in _secret_environment(attrs) else "http"
    return f"{scheme}://127.0.0.1:{_published_port(attrs, HTTP) or 0}"


def grpc_address(attrs: Attrs) -> str:
    """HOST:PORT for gRPC clients; empty: not published."""
    port = _published_port(attrs, GRPC)
    return f"127.0.0.1:{port}" if port else ""


def publishes_port(attrs: Attrs, port: int) -> bool:
    return port in (_published_port(attrs, HTTP), _published_port(attrs, GRPC))


def matches_endpoint(attrs: Attrs, wanted: PublishedEndpoint) -> bool:
    """Whether a container has the same ports, for the same clients, and secrets as `wanted`."""
    return (
        _is_public(attrs) == wanted.is_public
        and wanted.port in (0, _published_port(attrs, HTTP))
        and _matches_grpc(_published_port(attrs, GRPC), wanted.grpc_port)
        and has_secrets(attrs, wanted.mounts, wanted.environment)
    )


def has_secrets(attrs: Attrs, mounts: Sequence[Mount], environment: Mapping[str, str]) -> bool:
    """Whether the container was created with exactly these secrets."""
    sources = [mount["Source"] for mount in attrs["Mounts"] if mount["Destination"] == SECRETS_PATH]
    return sources == [mount["Source"] for mount in mounts] and _secret_environment(attrs) == environment


def supports_secrets(image: Attrs) -> bool:
    """Older servers ignore the variables and would serve without authentication; newer ones expose the gRPC port."""
    return GRPC in (image["Config"].get("ExposedPorts") or ())


def secrets_mount(folder: str) -> Mount:
    return Mount(SECRETS_PATH, folder, type="bind", read_only=True)


def _matches_grpc(published: int | None, wanted: int | None) -> bool:
    return published is not None if wanted == 0 else published == wanted


def _published_port(attrs: Attrs, inside: str) -> int | None:
    bindings = attrs["NetworkSettings"]["Ports"].get(inside)
    return int(bindings[0]["HostPort"]) if bindings else None


def _is_public(attrs: Attrs) -> bool:
    """Whether a port is published on another interface than loopback."""
    hosts = {binding["HostIp"] for bindings in attrs["NetworkSettings"]["Ports"].values() for binding in bindings or ()}
    return bool(hosts - {LOOPBACK, IPV6_LOOPBACK})


def _has_ipv6_loopback() -> bool:
    return IPV6_ADDRESSES.exists() and f"{1:032x} " in IPV6_ADDRESSES.read_text()


def _secret_environment(attrs: Attrs) -> dict[str, str]:
    """The container's environment variables for secrets."""
    pairs = (line.partition("=")[::2] for line in attrs["Config"]["Env"] or ())
    return {name: value for name, value in pairs if name in VARIABLES.values() and value}
