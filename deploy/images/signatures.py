"""Image signatures: Ed25519 over the image's digest, name, release and bundle, stored outside of the image.

An image cannot contain its own signature, so the signature lies in the toolchain's home under the image's id, travels
with the image and is stored on every server that has it. The id is the digest of the image's configuration, which lists
the digests of its layers: changing one byte of the model or the manifest changes the id.
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


def sign_image(image: Image, key: Path | None = None) -> Signature:
    """Sign with the key in a file, or with this toolchain's own key (created on first use), and store the signature.
    UsageError, DockerError."""
    labels = image.labels
    if not labels.get(BUNDLE):
        raise DockerError(f"{image.short_id} was not built by this toolchain; build an image: toolchain image")
    try:
        private = signing_key(key, _key_folder())
    except DeviceError as error:
        raise UsageError(str(error)) from error
    public = b64encode(bytes(private.verify_key)).decode()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = Signature(str(image.id), labels[NAME], labels[RELEASE], labels[BUNDLE], at, public)
    signature = b64encode(private.sign(signable_bytes(encode_record(made))).signature).decode()
    made = msgspec.structs.replace(made, signature=signature)
    write_atomically(_signature_path(str(image.id)), encode_record(made))
    return made


def read_signature(image: str) -> bytes:
    """The stored signature of an image id; b"" when it is not signed."""
    place = _signature_path(image)
    return place.read_bytes() if place.is_file() else b""


def keep_signature(image: str, document: bytes) -> None:
    write_atomically(_signature_path(image), document)


def check_signature(document: bytes, image: str, what: str) -> Signature:
    """RecordError: no signature, a signature of another image, or one that was changed."""
    if not document:
        raise RecordError(f"{what} is not signed; sign it where it was built: toolchain image sign {what}")
    signature = decode_record(document, Signature, f"the signature of {what}", FORMAT)
    if signature.image != image:
        raise RecordError(f"{what}: the signature is of another image, {signature.image[:19]}, not of {image[:19]}")
    try:
        VerifyKey(decode_base64(signature.key)).verify(signable_bytes(document), decode_base64(signature.signature))
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RecordError(f"{what}: the signature does not match: it was changed after it was signed") from error
    return signature


def _key_folder() -> Path:
    folder = home() / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _signature_path(image: str) -> Path:
    return home() / "signatures" / f"{image.rpartition(':')[2]}.json"
