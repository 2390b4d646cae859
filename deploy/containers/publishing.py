"""How a container is reached from this machine: published ports, the secrets it is given, what our client shows it.

Reads an engine's description of a container (`attrs`); calls no engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from docker.types import Mount

from deploy.containers.credentials import Credentials
from deploy.containers.secrets import CERT, CLIENT_CA, PLACE, TOKENS, VARIABLES, SecretFolder, secret_folder
from deploy.runtime.http.access import check_port
from toolchain.errors import UsageError

HTTP, GRPC = "8080/tcp", "8081/tcp"
Attrs = Mapping[str, Any]


@dataclass(frozen=True)
class Reach:
    """port, grpc_port: on this machine, 0: any free one; grpc_port None: not published. cert, key: what our own client
    shows to a server that asks for client certificates. Build it with `reach`, which checks."""

    port: int
    grpc_port: int | None = None
    secrets: SecretFolder | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def ports(self) -> dict[str, int | None]:
        """As the engine takes them: None is any free one."""
        found = {HTTP: self.port or None}
        return found if self.grpc_port is None else {**found, GRPC: self.grpc_port or None}

    @property
    def mounts(self) -> list[Mount]:
        return [secrets_mount(str(self.secrets.folder))] if self.secrets else []

    @property
    def environment(self) -> dict[str, str]:
        return self.secrets.environment if self.secrets else {}

    @property
    def shown(self) -> Credentials:
        return Credentials(self._file(TOKENS), None, self.cert, self.key, self._file(CERT))

    @property
    def strangers(self) -> Credentials | None:
        """What somebody shows who may not ask; None where all may."""
        is_closed = self._file(TOKENS) or self._file(CLIENT_CA)
        return Credentials(server_cert=self._file(CERT)) if is_closed else None

    @property
    def may_ask(self) -> bool:
        """Whether our client has all that the server wants to see."""
        return self._file(CLIENT_CA) is None or self.cert is not None

    @property
    def curl_flags(self) -> list[str]:
        """For a shell. The address is this machine's own, and no certificate is for that: none is verified."""
        tokens, flags = self._file(TOKENS), ["--insecure"] if self._file(CERT) else []
        if self._file(CLIENT_CA):
            flags += [f"--cert {quote(str(self.cert or 'FILE'))} --key {quote(str(self.key or 'FILE'))}"]
        if tokens:
            flags += [f"-H \"Authorization: Bearer $(grep -m1 '^[^#]' {quote(str(tokens))})\""]
        return flags

    def _file(self, name: str) -> Path | None:
        return self.secrets.file(name) if self.secrets else None


def reach(port: int, grpc_port: int | None, secrets: Path | None, cert: Path | None, key: Path | None) -> Reach:
    """A person's flags; UsageError for what cannot be, before anything is begun."""
    check_port("--port", port)
    check_port("--grpc-port", grpc_port)
    if port and port == grpc_port:
        raise UsageError(f"--grpc-port {port}: --port is the same; choose another")
    found = Reach(port, grpc_port, secret_folder(secrets) if secrets else None, cert, key)
    if (cert or key) and not (found.secrets and found.secrets.file(CLIENT_CA)):
        raise UsageError(f"--cert, --key: shown where --secrets has a {CLIENT_CA}; add that, or leave them away")
    if found.secrets:
        found.shown.context()  # raises for files that cannot be used
    return found


def url_of(attrs: Attrs) -> str:
    return f"{'https' if 'TLS_CERT' in _given(attrs) else 'http'}://127.0.0.1:{_published(attrs, HTTP) or 0}"


def grpc_of(attrs: Attrs) -> str:
    """HOST:PORT, as clients of gRPC are told it; empty: not published."""
    port = _published(attrs, GRPC)
    return f"127.0.0.1:{port}" if port else ""


def listens_on(attrs: Attrs, port: int) -> bool:
    return port in (_published(attrs, HTTP), _published(attrs, GRPC))


def is_reached(attrs: Attrs, wanted: Reach) -> bool:
    """Whether a container is reached just so: same ports, same secrets."""
    return (
        wanted.port in (0, _published(attrs, HTTP))
        and _is_grpc(_published(attrs, GRPC), wanted.grpc_port)
        and has_secrets(attrs, wanted.mounts, wanted.environment)
    )


def has_secrets(attrs: Attrs, mounts: Sequence[Mount], environment: Mapping[str, str]) -> bool:
    """Whether it was made with just these."""
    sources = [one["Source"] for one in attrs["Mounts"] if one["Destination"] == PLACE]
    return sources == [one["Source"] for one in mounts] and _given(attrs) == environment


def knows_secrets(image: Attrs) -> bool:
    """Servers that do not know the variables would serve open to all; those that know them expose gRPC's port."""
    return GRPC in (image["Config"].get("ExposedPorts") or ())


def secrets_mount(folder: str) -> Mount:
    return Mount(PLACE, folder, type="bind", read_only=True)


def _is_grpc(published: int | None, wanted: int | None) -> bool:
    return published is not None if wanted == 0 else published == wanted


def _published(attrs: Attrs, inside: str) -> int | None:
    bindings = attrs["NetworkSettings"]["Ports"].get(inside)
    return int(bindings[0]["HostPort"]) if bindings else None


def _given(attrs: Attrs) -> dict[str, str]:
    """The server's variables for secrets, as far as they are set."""
    pairs = (line.partition("=")[::2] for line in attrs["Config"]["Env"] or ())
    return {name: value for name, value in pairs if name in VARIABLES.values() and value}
