"""Who made an image: an Ed25519 signature of its digest, its name, release and bundle, kept beside the engine.

An image cannot hold a signature of itself, so it lies in the toolchain's home, by the image's id, travels with the
image and is kept on every server that took it. The id is the digest of the image's configuration, which lists the
digests of its layers: whoever changes a byte of the model or of the manifest has another id. Knows no servers.
"""

from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from docker.models.images import Image
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from deploy.docker.labels import BUNDLE, NAME, RELEASE
from deploy.runtime.device.signing import signing_key
from toolchain.errors import DeviceError, DockerError, RecordError, UsageError
from toolchain.paths import home
from toolchain.records.certificate import decode_base64, signable_bytes
from toolchain.records.storage import decode_record, encode_record, write_atomically

FORMAT = 1


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """image: its id; key, signature: base64; the signature is of all the rest (certificate.signable_bytes)."""

    image: str
    name: str
    release: str
    bundle: str
    signed_at: str
    key: str
    signature: str = ""
    format: int = FORMAT


def sign(image: Image, key: Path | None = None) -> Signature:
    """By the key in the file, or by this toolchain's own, made at its first use; kept. UsageError, DockerError."""
    labels = image.labels
    if not labels.get(BUNDLE):
        raise DockerError(f"{image.short_id} is no image of this toolchain; make one: toolchain image")
    try:
        held = signing_key(key, _keys())
    except DeviceError as error:
        raise UsageError(str(error)) from error
    public = b64encode(bytes(held.verify_key)).decode()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = Signature(str(image.id), labels[NAME], labels[RELEASE], labels[BUNDLE], at, public)
    signature = b64encode(held.sign(signable_bytes(encode_record(made))).signature).decode()
    made = msgspec.structs.replace(made, signature=signature)
    write_atomically(_place(str(image.id)), encode_record(made))
    return made


def signature_of(image: str) -> bytes:
    """As it lies in the home, b"" where nobody signed it."""
    place = _place(image)
    return place.read_bytes() if place.is_file() else b""


def keep_signature(image: str, document: bytes) -> None:
    write_atomically(_place(image), document)


def check_signature(document: bytes, image: str, what: str) -> Signature:
    """RecordError: no signature, one of another image, or one that was changed."""
    if not document:
        raise RecordError(f"{what} is not signed; sign it where it was made: toolchain image sign {what}")
    found = decode_record(document, Signature, f"the signature of {what}", FORMAT)
    if found.image != image:
        raise RecordError(f"{what}: the signature is of another image, {found.image[:19]}, not of {image[:19]}")
    try:
        VerifyKey(decode_base64(found.key)).verify(signable_bytes(document), decode_base64(found.signature))
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RecordError(f"{what}: the signature does not fit: it was changed after it was signed") from error
    return found


def _keys() -> Path:
    folder = home() / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _place(image: str) -> Path:
    return home() / "signatures" / f"{image.rpartition(':')[2]}.json"
