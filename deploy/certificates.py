"""Verifies that a device signed a certificate and that the device is trusted. runtime/device/signing.py signs."""

from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from toolchain.errors import RecordError, UsageError
from toolchain.records.certificate import FORMAT, Certificate, decode_base64, signable_bytes
from toolchain.records.storage import decode_record
from toolchain.text_files import read_text_file

KEY_BYTES = 32


def read_certificate(place: Path) -> tuple[bytes, Certificate]:
    """(its JSON, the certificate). The output of `toolchain certify` is accepted too: its last line holds one.
    UsageError, RecordError."""
    try:
        content = place.read_bytes().strip()
    except OSError as error:
        raise UsageError(
            f"{place}: {error.strerror}; expected a certificate: toolchain certify IMAGE --out=…"
        ) from error
    document = _find_document(content) or _find_document(content.rpartition(b"\n")[2])
    if document is None:
        raise RecordError(f"{place}: not a certificate; expected a file written by `toolchain certify IMAGE --out=…`")
    return document, decode_record(document, Certificate, str(place), FORMAT)


def _find_document(content: bytes) -> bytes | None:
    """The JSON object itself, or its member `certificate`; None when it is no object."""
    try:
        members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return None
    return bytes(members["certificate"]) if "certificate" in members else content


def verify_certificate(document: bytes, certificate: Certificate, trusted: str | None = None) -> None:
    """RecordError when it is unsigned, was changed after signing, or was not signed by the key `trusted` (base64)."""
    if not certificate.signature:
        raise RecordError("not signed: older than signed certificates; issue a new one: toolchain certify IMAGE")
    if trusted is not None and trusted != certificate.key:
        raise RecordError(
            f"of another device: signed by {certificate.key} ({certificate.fingerprint.cpu_model}), not by the trusted "
            f"key {trusted}"
        )
    try:
        VerifyKey(decode_base64(certificate.key)).verify(signable_bytes(document), decode_base64(certificate.signature))
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RecordError("the signature does not match: the certificate was changed after it was signed") from error


def read_trusted_keys(text: str) -> tuple[str, ...]:
    """The public keys that --key gives, separated by commas, as read_trusted_key(); UsageError."""
    return tuple(filter(None, (read_trusted_key(part) for part in text.split(",") if part)))


def read_trusted_key(text: str | None) -> str | None:
    """The public key (base64) that --key gives, itself or as a file; UsageError."""
    if text is None:
        return None
    if Path(text).is_file():
        text = read_text_file(Path(text), UsageError).strip()
    try:
        size = len(decode_base64(text))
    except RecordError as error:
        raise UsageError(f"--key: {error}; expected a public key in base64, or a file that contains one") from error
    if size != KEY_BYTES:
        raise UsageError(f"--key: {size} bytes; expected a public key of {KEY_BYTES} bytes in base64")
    return text
