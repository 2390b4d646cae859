"""Image signatures: Ed25519 over the image's content and labels, stored outside of the image.

An image cannot contain its own signature, so the signature lies where no project can bring it along, under the digest
of the image's configuration, travels with the image and is stored on every server that has it. It covers what
identifies the image on every engine (ImageContent) and what the image says that it is: name, release, model, bundle
and target.
"""

import logging
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from deploy.docker.archive import ImageContent
from deploy.docker.labels import ReleaseLabels
from deploy.runtime.device.signing import KEY, signing_key
from toolchain.errors import DeviceError, RecordError, UsageError
from toolchain.paths import home, private_folder
from toolchain.records.certificate import decode_base64, signable_bytes
from toolchain.records.storage import JSON_ERRORS, decode_record, encode_record, format_number, write_atomically

logger = logging.getLogger(__name__)

FORMAT = 2


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """key, signature: base64; the signature is of all the rest (certificate.signable_bytes)."""

    content: ImageContent
    labels: ReleaseLabels
    signed_at: str
    key: str
    signature: str = ""
    format: int = FORMAT


class SignatureOfFormat1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """image: the id that the engine which built it had for it: on engines of that time, the configuration's digest. It
    covers the configuration, and with it the labels and the layers."""

    image: str
    name: str
    release: str
    bundle: str
    signed_at: str
    key: str
    signature: str = ""
    format: int = 1


def sign_image(content: ImageContent, labels: ReleaseLabels, key: Path | None = None) -> Signature:
    """Sign with the key in a file, or with this toolchain's own key (created on first use), and store the signature.
    UsageError: the file holds no key."""
    private = read_signing_key(key)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    unsigned = Signature(content, labels, at, public_key(private))
    made = msgspec.structs.replace(unsigned, signature=sign_document(encode_record(unsigned), private))
    write_atomically(_signature_path(content.config), encode_record(made))
    return made


def read_signing_key(key: Path | None = None) -> SigningKey:
    """The key in a file; by default this toolchain's own, created on first use. UsageError: the file holds no key."""
    folder = _key_folder()
    if key is None and not (folder / KEY).is_file():
        _warn_of_project_key(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return signing_key(key, folder)
    except DeviceError as error:
        raise UsageError(str(error)) from error


def _warn_of_project_key(folder: Path) -> None:
    """Earlier versions kept the key in the project's folder, where one may have come with a clone of it."""
    earlier = home() / "keys" / KEY
    if earlier.is_file():
        logger.warning(
            f"{earlier} is not used any more, since a project's folder can bring a stranger's key: a new key is made; "
            f"if that one is yours: mkdir -p {folder} && mv {earlier} {folder}"
        )


def own_public_key() -> str:
    """Of this toolchain's own key; "" where it has none yet."""
    return public_key(read_signing_key()) if (_key_folder() / KEY).is_file() else ""


def public_key(private: SigningKey) -> str:
    return b64encode(bytes(private.verify_key)).decode()


def sign_document(document: bytes, private: SigningKey) -> str:
    """The signature of a record as JSON, base64; of all its fields but `signature`."""
    return b64encode(private.sign(signable_bytes(document)).signature).decode()


def verify_document(document: bytes, key: str, signature: str, what: str) -> None:
    """RecordError: `document` is not what the holder of `key` signed."""
    try:
        VerifyKey(decode_base64(key)).verify(signable_bytes(document), decode_base64(signature))
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RecordError(f"{what}: the signature does not match: it was changed after it was signed") from error


def read_signature(config: str) -> bytes:
    """The stored signature of the image with that configuration; b"" when it is not signed."""
    place = _signature_path(config)
    if place.is_file():
        return place.read_bytes()
    earlier = home() / "signatures" / place.name
    found = earlier.read_bytes() if earlier.is_file() else b""
    # earlier versions kept them there, where a clone may bring a stranger's
    return found if _is_by_own_key(found) else b""


def check_signature(document: bytes, content: ImageContent, labels: ReleaseLabels, what: str) -> Signature:
    """The signature, if it is valid and of just this image and release. RecordError: none, another's, or changed."""
    if not document:
        raise RecordError(f"{what} is not signed; sign it where it was built: toolchain image sign {what}")
    found = _decode_signature(document, content, labels, what)
    verify_document(document, found.key, found.signature, what)
    if found.content != content:
        raise RecordError(
            f"{what}: the signature is of another image, {found.content.config[:19]}, not of {content.config[:19]}; "
            f"sign it where it was built: toolchain image sign {what}"
        )
    for field in labels.__struct_fields__:
        signed, claimed = getattr(found.labels, field), getattr(labels, field)
        if signed != claimed:
            raise RecordError(
                f"{what}: signed as {field} {signed or 'none'!r}, and it claims to be {claimed!r}; do not use it"
            )
    return found


class _Signer(msgspec.Struct, frozen=True):
    key: str


class SigningTime(msgspec.Struct, frozen=True):
    """What signatures of every format have."""

    signed_at: datetime


def read_signed_at(document: bytes, what: str) -> str:
    """When a stored signature says that it was made, in UTC; "" for none. RecordError: it is no signature."""
    if not document:
        return ""
    try:
        at = msgspec.json.decode(document, type=SigningTime).signed_at
    except JSON_ERRORS as error:
        raise RecordError(f"{what}: not a signature: {error}") from error
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _is_by_own_key(document: bytes) -> bool:
    try:
        return msgspec.json.decode(document, type=_Signer).key == own_public_key() != ""
    except JSON_ERRORS:
        return False


def signed_content(document: bytes) -> ImageContent | None:
    """What a signature says that it is of, before it is checked; None where it does not say (format 1) or is none."""
    try:
        return msgspec.json.decode(document, type=Signature).content
    except JSON_ERRORS:
        return None


def _decode_signature(document: bytes, content: ImageContent, labels: ReleaseLabels, what: str) -> Signature:
    """One of format 1 with what it does not name as claimed: the digest of the configuration covers all of that."""
    place = f"the signature of {what}"
    if format_number(document, "signature", place) != 1:
        return decode_record(document, Signature, place, FORMAT)
    old = decode_record(document, SignatureOfFormat1, place, 1)
    content = content if content.config == old.image else msgspec.structs.replace(content, config=old.image)
    named = msgspec.structs.replace(labels, name=old.name, release=old.release, bundle=old.bundle)
    return Signature(content, named, old.signed_at, old.key, old.signature, 1)


def _key_folder() -> Path:
    return private_folder() / "keys"


def _signature_path(config: str) -> Path:
    return private_folder() / "signatures" / f"{config.rpartition(':')[2]}.json"
