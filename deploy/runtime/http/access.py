"""Who may request what on which port, decided from a request's head before its body is received.

Health is open to everyone on every port: an orchestrator's probe has neither a token nor a certificate. The files of
the web page are open to clients without a token: a browser has none when it loads them, and they reveal nothing of the
model.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec

from deploy.runtime.http.messages import HTTPError
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Family, gauge
from deploy.runtime.security.reload import Reloadable
from deploy.runtime.security.tls import ServingContext, TlsFiles, reloadable_context
from deploy.runtime.security.tokens import Tokens
from toolchain.errors import UsageError

HEALTH = frozenset({"/v2/health/live", "/v2/health/ready", "/healthz"})
CONTROL = ("/metrics", "/v2/systemsharedmemory", "/v2/cudasharedmemory")  # and what is below them
Headers = Mapping[bytes, bytes]
PortRole = Literal["all", "main", "admin"]


class AccessOptions(msgspec.Struct, frozen=True):
    """admin_port: None: everything on one port; 0: any free port, printed in the log."""

    tls: TlsFiles | None = None
    tokens: Path | None = None
    admin_host: str = "0.0.0.0"
    admin_port: int | None = None


def access_from_flags(options: Namespace) -> AccessOptions:
    """From the command line's flags; UsageError for a contradiction."""
    port = options.admin_port
    check_port("--admin-port", port)
    if port and port == options.port:
        raise UsageError(f"--admin-port {port}: --port is the same; choose another, or leave out --admin-port")
    tokens = Path(options.token_file) if options.token_file else None
    return AccessOptions(_tls(options), tokens, options.admin_host, port)


def check_port(flag: str, port: int | None) -> None:
    """UsageError unless it is a port; 0: any free one, None: none."""
    if port is not None and not 0 <= port <= 65535:
        raise UsageError(f"{flag} {port}: expected 0 to 65535")


def _tls(options: Namespace) -> TlsFiles | None:
    cert, key, client_ca = options.tls_cert, options.tls_key, options.tls_client_ca
    if not cert and not key and not client_ca:
        return None
    if not cert or not key:
        raise UsageError(f"--tls-{'key' if cert else 'cert'} is missing; TLS needs both --tls-cert and --tls-key")
    return TlsFiles(Path(cert), Path(key), Path(client_ca) if client_ca else None)


class Secrets:
    """The files that `access` names; poll() reads again what has changed. UsageError for a file that cannot be used."""

    def __init__(self, access: AccessOptions, log: Log) -> None:
        self.tls: Reloadable[ServingContext] | None = reloadable_context(access.tls, log) if access.tls else None
        self.tokens = Tokens(access.tokens, log) if access.tokens else None
        self.sources: list[Reloadable[ServingContext] | Tokens] = [
            source for source in (self.tls, self.tokens) if source is not None
        ]
        self.requires_certificate = access.tls is not None and access.tls.client_ca is not None

    def __bool__(self) -> bool:
        return self.tls is not None or self.tokens is not None

    def poll(self) -> None:
        for source in self.sources:
            source.poll()

    def families(self) -> Iterator[Family]:
        if self.tls is not None:
            name = "edge_tls_certificate_expiry_timestamp_seconds"
            words = "When the TLS certificate in use expires, seconds since 1970."
            yield gauge(name, words, self.tls.value.expires_at.timestamp())


class AccessRules:
    """Of one port. is_page: whether the web page has a file at a path; other_port: the port that answers the rest."""

    def __init__(self, secrets: Secrets, is_page: Callable[[str, Headers], bool], role: PortRole = "all") -> None:
        self._secrets, self._role, self._is_page = secrets, role, is_page
        self.other_port = 0

    @property
    def has_rules(self) -> bool:
        return self._role != "all" or self._secrets.tokens is not None or self._secrets.requires_certificate

    def check(self, has_certificate: bool, method: bytes, target: bytes, headers: Headers) -> None:
        """HTTPError 401, 403 or 404. has_certificate: the client has presented a certificate of a known authority."""
        path = target.partition(b"?")[0].decode("latin-1")
        # open endpoints take no body: else clients without a token could fill the memory reserved for bodies
        only_reads = method in (b"GET", b"HEAD") and not _has_body(headers)
        if not (only_reads and path in HEALTH):
            self._check_certificate(has_certificate)
            if not (only_reads and self._is_page(path, headers)):
                self._check_token(headers)
        self._check_port(path)

    def _check_certificate(self, certified: bool) -> None:
        if self._secrets.requires_certificate and not certified:
            raise HTTPError(403, "unauthorized", "a client certificate is required: curl --cert FILE --key FILE")

    def _check_token(self, headers: Headers) -> None:
        tokens = self._secrets.tokens
        if tokens is not None and not tokens.allows(headers.get(b"authorization")):
            raise HTTPError(
                401,
                "unauthorized",
                "a token is required: Authorization: Bearer TOKEN",
                (("WWW-Authenticate", "Bearer"),),
            )

    def _check_port(self, path: str) -> None:
        if self._role == "all":
            return
        path = unquote(path).rstrip("/")  # as routes.py looks it up
        is_control = any(path == one or path.startswith(f"{one}/") for one in CONTROL)
        if self._role == "main" and is_control:
            raise HTTPError(404, "wrong_port", f"{path[:80]} is answered on the admin port, {self.other_port}")
        if self._role == "admin" and not is_control and path not in HEALTH:
            words = f"only health, metrics and control are served here; everything else is on port {self.other_port}"
            raise HTTPError(404, "wrong_port", words)


def _has_body(headers: Headers) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
