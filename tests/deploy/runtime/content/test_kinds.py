"""A body is what its first bytes say, whatever its client calls it."""

import pytest

from deploy.runtime.content.kinds import body_kind
from deploy.runtime.decoding.formats import image_format
from tests.deploy.runtime.decoding.files import encode, noise

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TYPES = (
    *(b"", b"application/x-www-form-urlencoded", b"application/octet-stream", b"Image/JPEG", b"image/png; q=1"),
    *(b"text/plain", b"application/json"),
)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_file_is_known_by_its_first_bytes(kind: str) -> None:
    content = encode(noise(8, 8), kind)
    assert image_format(content[:12]) == kind
    assert {body_kind(label, memoryview(content)) for label in TYPES} == {"image"}


def test_what_is_called_an_image_is_one_and_json_stays_json() -> None:
    assert body_kind(b"IMAGE/heic", memoryview(b"\0\0\0\x18ftypheic")) == "image"
    assert body_kind(b"Multipart/Form-Data; boundary=x", memoryview(b"--x")) == "form"
    for label in (b"", b"application/json", b"application/x-www-form-urlencoded"):
        assert body_kind(label, memoryview(b' {"inputs": []}')) == "protocol"
    assert body_kind(b"", memoryview(b"")) == "protocol"
    assert image_format(b"RIFF\0\0\0\0WAVE") is None
