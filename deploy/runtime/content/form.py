"""The image files of a form: multipart/form-data, as curl -F, browsers and HTTP libraries send it (RFC 7578).

Parsed here and not by a library: those parse a stream, for fields that have no bound; this is a body that has arrived,
of which only the files matter. A form within a form is a field without an image.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from deploy.runtime.decoding.formats import SIGNATURE_BYTES, image_format
from toolchain.errors import RequestError

BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
FILE_NAME = re.compile(
    rb'^content-disposition:[^\r\n]*;\s*filename\*?=\s*("?)([^\r\n";]*)', re.IGNORECASE | re.MULTILINE
)
LINE_END, HEAD_END = b"\r\n", b"\r\n\r\n"
MAX_PARTS, MAX_HEAD_BYTES = 300, 4 << 10  # a form's fields, of which 256 may be images; what is said of one


class FormPart(NamedTuple):
    head: bytes
    content: bytes

    @property
    def is_image(self) -> bool:
        """A file, or bytes that begin as an image does; not a file field that was left empty."""
        name = FILE_NAME.search(self.head)
        is_file = name is not None and bool(name[2] or self.content)
        return is_file or image_format(self.content[:SIGNATURE_BYTES]) is not None


def read_form_images(content: bytes, content_type: bytes) -> tuple[bytes, ...]:
    """The files in a form, one or more; RequestError where it is broken or has none."""
    match = BOUNDARY.search(content_type)
    if match is None:
        raise RequestError("a form without its boundary; let your HTTP library set the Content-Type")
    images = tuple(part.content for part in _iterate_parts(content, b"--" + (match[1] or match[2])) if part.is_image)
    if not images:
        raise RequestError("a form without an image file; send one: curl -F file=@image.jpg")
    return images


def _iterate_parts(content: bytes, line: bytes) -> Iterator[FormPart]:
    """line: by which each part begins."""
    delimiter = LINE_END + line
    at = 0 if content.startswith(line) else content.find(delimiter) + len(LINE_END)
    if not content.startswith(line, at):
        raise RequestError("a form in which its boundary does not occur")
    for _ in range(MAX_PARTS + 1):
        at += len(line)
        if content.startswith(b"--", at):
            return
        start = content.find(LINE_END, at, at + MAX_HEAD_BYTES)  # kept: a part without a head is an empty line
        head_end = content.find(HEAD_END, start, start + MAX_HEAD_BYTES) if start >= 0 else -1
        end = content.find(delimiter, head_end + len(LINE_END)) if head_end >= 0 else -1
        if start < 0 or content[at:start].strip(b" \t") or head_end < 0 or end < 0:
            raise RequestError("a form that is cut or whose parts are broken")
        first = head_end + len(HEAD_END)
        yield FormPart(content[start + len(LINE_END) : head_end], content[first:end])
        at = end + len(LINE_END)
    raise RequestError(f"a form of more than {MAX_PARTS} parts")
