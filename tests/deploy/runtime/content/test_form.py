"""Forms as curl, browsers and requests write them, and forms that nobody should."""

import time

import pytest

from deploy.runtime.content.form import MAX_PARTS, read_form_images
from tests.deploy.runtime.decoding.files import encode, noise
from toolchain.errors import RequestError

JPEG = encode(noise(8, 8), "JPEG")
CURL = b"multipart/form-data; boundary=------------------------d74496d66958873e"
LINE = b"--------------------------d74496d66958873e"


def part(content: bytes, disposition: bytes = b'form-data; name="file"; filename="x.jpg"') -> bytes:
    return (
        LINE + b"\r\nContent-Disposition: " + disposition + b"\r\nContent-Type: image/jpeg\r\n\r\n" + content + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + LINE + b"--\r\n"


FIELD = b'form-data; name="note"'


def test_the_files_of_a_form_are_its_images_in_their_order() -> None:
    assert read_form_images(form(part(JPEG)), CURL) == (JPEG,)
    assert read_form_images(form(part(b"hello", FIELD), part(JPEG), part(b"no image")), CURL) == (JPEG, b"no image")
    assert read_form_images(form(part(JPEG, FIELD)), CURL) == (JPEG,)  # an image without a file name
    assert read_form_images(form(part(b"", FIELD + b'; filename=""'), part(JPEG)), CURL) == (JPEG,)


def test_what_a_client_may_vary_is_taken() -> None:
    quoted = CURL.replace(b"=", b'="', 1) + b'"; charset=utf-8'
    assert read_form_images(form(part(JPEG)), quoted) == (JPEG,)
    assert read_form_images(b"before\r\n" + form(part(JPEG)) + b"after", CURL) == (JPEG,)
    assert read_form_images(form(part(JPEG).replace(LINE, LINE + b" \t")), CURL) == (JPEG,)
    assert read_form_images(form(LINE + b"\r\n\r\n" + JPEG + b"\r\n"), CURL) == (JPEG,)
    assert read_form_images(form(part(JPEG))[:-2], CURL) == (JPEG,)
    assert read_form_images(form(part(JPEG, b"form-data; name=f; FILENAME*=UTF-8''x")), CURL) == (JPEG,)
    dashes = JPEG + b"\r\n--" + LINE[2:-1] + b"\r\n"  # nearly the boundary
    assert read_form_images(form(part(dashes)), CURL) == (dashes,)


NESTED = form(part(b"--in\r\n\r\n" + JPEG + b"\r\n--in--", b"form-data; name=f\r\nContent-Type: multipart/mixed"))


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (form(part(JPEG)), b"multipart/form-data", "a form without its boundary"),
        (form(part(JPEG)), CURL + b"x", "its boundary does not occur"),
        (b"", CURL, "its boundary does not occur"),
        (form(part(JPEG))[:200], CURL, "cut or whose parts are broken"),
        (form(LINE + b"\r\nno end of the head"), CURL, "cut or whose parts are broken"),
        (form(LINE + b"\r\nX: " + b"y" * 5000 + b"\r\n\r\n" + JPEG + b"\r\n"), CURL, "cut or whose parts are broken"),
        (form(LINE + b"junk\r\n\r\n" + JPEG + b"\r\n"), CURL, "cut or whose parts are broken"),
        (form(), CURL, r"a form without an image file; send one: curl -F file=@image.jpg$"),
        (form(part(b"hello", FIELD)), CURL, "a form without an image file"),
        (NESTED, CURL, "a form without an image file"),
        (form(*[part(b"x", FIELD)] * 10_000), CURL, f"a form of more than {MAX_PARTS} parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_form_without_images_or_out_of_bounds_is_refused(content: bytes, kind: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_form_images(content, kind)


def test_a_form_of_many_line_ends_is_read_once() -> None:
    """Any search that starts over for each of them would take minutes."""
    began = time.process_time()
    content = (b"\r\n" + LINE[:-1]) * 800_000
    assert read_form_images(form(part(JPEG + content)), CURL) == (JPEG + content,)
    assert time.process_time() - began < 5
