"""What a client of ours shows a server that is closed, and whom it trusts: files, as a person names them by flags.

Knows no requests.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from deploy.runtime.security.tls import first_certificate
from deploy.runtime.security.tokens import parse_tokens
from toolchain.errors import UsageError


@dataclass(frozen=True)
class Credentials:
    """token_file: its first token is shown; ca: who signed the server's certificate, None: whom this system trusts;
    cert and key: the certificate to show. server_cert: in place of ca, the one certificate that the server must have,
    whoever signed it and for whatever name."""

    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_cert: Path | None = None

    def headers(self) -> dict[str, str]:
        return {} if self.token_file is None else {"Authorization": f"Bearer {_token(self.token_file)}"}

    def context(self) -> ssl.SSLContext:
        """UsageError for files that cannot be used."""
        context = self._trusting() if self.server_cert is None else _trusting_only(self.server_cert)
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

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(f"--ca {self.ca}: no certificates in PEM can be read there ({_reason(error)})") from error


def _trusting_only(cert: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
    # the first alone: of the chain behind it, others have certificates too
    context.load_verify_locations(cadata=first_certificate(cert))
    return context


def _token(file: Path) -> str:
    try:
        found = parse_tokens(file.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {file}: cannot be read ({_reason(error)})") from error
    if not found:
        raise UsageError(f"--token-file {file}: no token in it; expected one a line")
    return found[0][1]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
