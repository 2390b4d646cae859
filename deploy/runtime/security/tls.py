"""Certificate, key and authorities in files -> an SSL context. Knows no connections.

Versions 1.2 and 1.3; with 1.2 only suites with forward secrecy and authenticated encryption (RFC 9325, 4.2), and no
renegotiation, by which a client can waste a server's CPU time.
"""

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from deploy.runtime.logs import Log
from deploy.runtime.security.reload import Reloadable, read_file, readability_warnings
from toolchain.errors import UsageError

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
CERT, KEY, CLIENT_CA = "--tls-cert", "--tls-key", "--tls-client-ca"


class TlsFiles(msgspec.Struct, frozen=True):
    """cert: the chain, the server's own certificate first. client_ca: authorities for client certificates; None: not
    requested."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)


class ServingContext(NamedTuple):
    """expires_at: of the certificate in use, which is not the file's while the file is unusable."""

    context: ssl.SSLContext
    expires_at: datetime


def reloadable_context(tls: TlsFiles, log: Log) -> Reloadable[ServingContext]:
    """UsageError for files that cannot be used."""
    return Reloadable(
        "TLS", tls.files, lambda: ServingContext(server_context(tls), expiry(tls.cert)), log, lambda: warnings(tls)
    )


def server_context(tls: TlsFiles, protocol: str = "http/1.1") -> ssl.SSLContext:
    """A client certificate is verified if there is one. access.py decides what a client without one may request, so
    that it gets an answer in words, and an orchestrator without one can check health."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    _load_chain(context, tls)
    if tls.client_ca is not None:
        _load_authorities(context, tls.client_ca)
    return context


def _load_chain(context: ssl.SSLContext, tls: TlsFiles) -> None:
    expiry(tls.cert)  # raises where there is no certificate
    read_file(KEY, tls.key)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=lambda: _refuse_encrypted(tls.key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"{KEY} {tls.key}: not the key of the certificate in {tls.cert}; use the key that belongs to it"
            ) from error
        raise UsageError(
            f"{KEY} {tls.key}: cannot serve with {tls.cert} ({error.reason or error}); expected a private key in PEM"
        ) from error
    except OSError as error:  # removed since it was read
        raise UsageError(f"{CERT} {tls.cert}, {KEY} {tls.key}: cannot be read ({error.strerror})") from error


def _refuse_encrypted(key: Path) -> str:
    """Otherwise OpenSSL would prompt for the password on a terminal."""
    raise UsageError(f"{KEY} {key}: the key is encrypted; decrypt it: openssl pkey -in {key} -out plain.key")


def _load_authorities(context: ssl.SSLContext, client_ca: Path) -> None:
    read_file(CLIENT_CA, client_ca)
    try:
        context.load_verify_locations(client_ca)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"{CLIENT_CA} {client_ca}: it contains no authority's certificate in PEM") from error
    context.verify_mode = ssl.CERT_OPTIONAL


def warnings(tls: TlsFiles) -> list[str]:
    """A certificate that clients refuse, or soon will, and a key that others can read."""
    end, now = expiry(tls.cert), datetime.now(UTC)
    found = readability_warnings(KEY, tls.key)
    if end < now:
        found.append(f"{CERT} {tls.cert}: expired on {end:%Y-%m-%d %H:%M} UTC; clients refuse it; renew it")
    elif (days := (end - now).days) < 14:
        found.append(f"{CERT} {tls.cert}: expires on {end:%Y-%m-%d %H:%M} UTC, in {days} days; renew it")
    return found


def expiry(cert: Path) -> datetime:
    """When the first certificate in the file expires (notAfter); UsageError when there is none."""
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(first_certificate(cert)))
    except (ValueError, IndexError) as error:
        raise _no_certificate(cert) from error


def first_certificate(cert: Path) -> str:
    """The first in the file, in PEM; UsageError when there is none."""
    found = PEM.search(read_file(CERT, cert))
    if found is None:
        raise _no_certificate(cert)
    return found[0]


def _no_certificate(cert: Path) -> UsageError:
    return UsageError(f"{CERT} {cert}: it contains no certificate in PEM; expected the chain, the server's own first")


def _not_after(der: bytes) -> datetime:
    """RFC 5280, 4.1: Certificate > TBSCertificate > [version,] serial, signature, issuer, validity > its 2nd."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, after = _element(der, at)
    for _ in range(3 if tag == 0xA0 else 2):
        _, _, after = _element(der, after)
    _, at, _ = _element(der, after)
    _, _, at = _element(der, at)
    tag, at, after = _element(der, at)
    text = der[at:after].decode("ascii")
    if tag == 0x17:  # UTCTime has two digits for the year, up to 2049
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, where its content begins, and where it ends (X.690, 8.1)."""
    size, begin = der[at + 1], at + 2
    if size & 0x80:
        begin += size & 0x7F
        size = int.from_bytes(der[at + 2 : begin], "big")
    return der[at], begin, begin + size
