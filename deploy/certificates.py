"""Is a certificate what a device signed, and is that device trusted? Host side of deploy/runtime/device/signing.py."""

from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from toolchain.errors import RecordError, UsageError
from toolchain.records.certificate import FORMAT, Certificate, decode_base64, signable_bytes
from toolchain.records.storage import decode_record

KEY_BYTES = 32


def read_certificate(place: Path) -> tuple[bytes, Certificate]:
    """(its JSON, the certificate). What `toolchain certify` prints will do as well: its last line holds it; UsageError,
    RecordError."""
    try:
        content = place.read_bytes().strip()
    except OSError as error:
        raise UsageError(
            f"{place}: {error.strerror}; expected a certificate: toolchain certify IMAGE --out=…"
        ) from error
    document = _held(content) or _held(content.rpartition(b"\n")[2])
    if document is None:
        raise RecordError(f"{place}: not a certificate; expected what `toolchain certify IMAGE --out=…` wrote")
    return document, decode_record(document, Certificate, str(place), FORMAT)


def _held(content: bytes) -> bytes | None:
    """The JSON object itself, or what it has under `certificate`; None for no object."""
    try:
        found = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return None
    return bytes(found["certificate"]) if "certificate" in found else content


def verify(document: bytes, certificate: Certificate, trusted: str | None = None) -> None:
    """RecordError when it is not signed, was changed since, or not by the key `trusted` (base64)."""
    if not certificate.signature:
        raise RecordError("not signed: made before certificates were; make it again: toolchain certify IMAGE")
    if trusted is not None and trusted != certificate.key:
        raise RecordError(f"signed by {certificate.key}, not by the key that is trusted, {trusted}")
    try:
        VerifyKey(decode_base64(certificate.key)).verify(signable_bytes(document), decode_base64(certificate.signature))
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RecordError("the signature does not fit: the certificate was changed after it was signed") from error


def trusted_key(text: str | None) -> str | None:
    """--key as base64, or the file that holds it; UsageError."""
    if text is None:
        return None
    if Path(text).is_file():
        text = Path(text).read_text().strip()
    try:
        size = len(decode_base64(text))
    except RecordError as error:
        raise UsageError(f"--key: {error}; expected a public key in base64, or a file with one") from error
    if size != KEY_BYTES:
        raise UsageError(f"--key: {size} bytes; a public key has {KEY_BYTES}, in base64")
    return text
