"""The credentials that the toolchain's own client uses, as files that flags name, and whom it trusts."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from deploy.runtime.security.tls import first_certificate
from deploy.runtime.security.tokens import parse_tokens
from toolchain.errors import UsageError
from toolchain.text_files import read_text_file


@dataclass(frozen=True)
class Credentials:
    """token_file: its first token is sent; ca: the authority of the server's certificate, None: the system's
    authorities; cert and key: the client certificate. server_cert: instead of ca, the exact certificate that the server
    must have, whoever signed it and whatever name it is for. token: what is sent instead of one of
    a file."""

    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_cert: Path | None = None
    token: str | None = None

    def headers(self) -> dict[str, str]:
        token = self.token
        if token is None and self.token_file is not None:
            token = _first_token(self.token_file)
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def context(self) -> ssl.SSLContext:
        """UsageError for files that cannot be used."""
        context = self._default_context() if self.server_cert is None else _pinned_context(self.server_cert)
        if (self.cert is None) != (self.key is None):
            raise UsageError("--cert and --key go together; give both")
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                raise UsageError(
                    f"--cert {self.cert}, --key {self.key}: no certificate with its key in PEM ({_reason(error)})"
                ) from error
        return context

    def _default_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(f"--ca {self.ca}: no certificates in PEM can be read there ({_reason(error)})") from error


def _pinned_context(cert: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not belong to an authority
    # only the first certificate: the rest of the chain has signed other servers' certificates too
    context.load_verify_locations(cadata=first_certificate(cert))
    return context


def _first_token(file: Path) -> str:
    try:
        tokens = parse_tokens(read_text_file(file, UsageError))
    except OSError as error:
        raise UsageError(f"--token-file {file}: cannot be read ({_reason(error)})") from error
    if not tokens:
        raise UsageError(f"--token-file {file}: no token in it; expected one per line")
    return tokens[0][1]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
