"""A device's signing key and its signatures: Ed25519 (RFC 8032), by libsodium.

The key is mounted, or created at the first start and kept on the volume, readable only by its owner. Without either it
lives as long as the process: the signature then proves integrity, not origin.
"""

import os
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from toolchain.errors import DeviceError, RecordError
from toolchain.records.certificate import Certificate, decode_base64, signable_bytes
from toolchain.records.storage import encode_record

KEY = "key.ed25519"
SEED_BYTES = 32


def signing_key(mounted: Path | None, state: Path | None) -> SigningKey:
    """The mounted key; otherwise the one on the volume, created if missing; otherwise a temporary one. DeviceError for
    a file that holds no key."""
    if mounted is not None:
        return _read_key(mounted)
    if state is None:
        return SigningKey.generate()
    place = state / KEY
    if not place.is_file():
        try:
            _create_key(place, SigningKey.generate())
        except OSError as error:
            raise DeviceError(f"{place}: cannot be written ({error.strerror}); mount a key: CERTIFICATE_KEY") from error
    return _read_key(place)


def _create_key(place: Path, key: SigningKey) -> None:
    """Two containers that start at once on one volume must end up with one key: the first to link it wins."""
    temporary = place.with_name(f".{KEY}.{os.getpid()}.{os.urandom(4).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(b64encode(bytes(key)) + b"\n")
        with suppress(FileExistsError):
            place.hardlink_to(temporary)
    finally:
        temporary.unlink()


def _read_key(place: Path) -> SigningKey:
    try:
        seed = decode_base64(place.read_text().strip())
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise DeviceError(
            f"{place}: no key to sign with ({error}); expected base64 of {SEED_BYTES} bytes: "
            f"head -c {SEED_BYTES} /dev/urandom | base64"
        ) from error
    if len(seed) != SEED_BYTES:
        raise DeviceError(f"{place}: {len(seed)} bytes; a key to sign with has {SEED_BYTES}, in base64")
    return SigningKey(seed)


def is_signed_by(certificate: Certificate, key: SigningKey) -> bool:
    """Whether this device's key signed just this certificate."""
    try:
        key.verify_key.verify(signable_bytes(encode_record(certificate)), decode_base64(certificate.signature))
    except (BadSignatureError, ValueError, RecordError):
        return False
    return certificate.key == b64encode(bytes(key.verify_key)).decode()


def sign_certificate(certificate: Certificate, key: SigningKey) -> Certificate:
    """The certificate with the public key and the signature."""
    named = msgspec.structs.replace(certificate, key=b64encode(bytes(key.verify_key)).decode(), signature="")
    # as it will be read: a whole number in a field for fractions is written without a point, and read with one
    named = msgspec.json.decode(encode_record(named), type=Certificate)
    signature = key.sign(signable_bytes(encode_record(named))).signature
    return msgspec.structs.replace(named, signature=b64encode(signature).decode())
