"""What a request's body is. Its first bytes decide, since curl and browsers label an image file as they like."""

from typing import Literal

from deploy.runtime.decoding.formats import SIGNATURE_BYTES, image_format

BodyKind = Literal["protocol", "image", "form"]
FORM = b"multipart/form-data"


def body_kind(content_type: bytes, body: memoryview) -> BodyKind:
    """protocol: JSON, or a body that is not known: the protocol's parser says what it expected. content_type: as sent,
    in any case and with any parameters."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == FORM:
        return "form"
    is_image = kind.startswith(b"image/") or image_format(bytes(body[:SIGNATURE_BYTES])) is not None
    return "image" if is_image else "protocol"
