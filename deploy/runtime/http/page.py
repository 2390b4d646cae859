"""The web page at `/`: the files of page/, with headers that forbid loading anything from elsewhere.

Knows nothing of models: the page uses the public endpoints.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

from deploy.runtime.http.messages import HttpReply

FOLDER = Path(__file__).parents[1] / "page"
HTML, CSS, SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
FILES = {  # URL -> file and type
    "/": ("page.html", HTML),
    "/page.css": ("page.css", CSS),
    "/page.js": ("page.js", SCRIPT),
    "/page-ask.js": ("page-ask.js", SCRIPT),
    "/page-dom.js": ("page-dom.js", SCRIPT),
    "/page-live.js": ("page-live.js", SCRIPT),
    "/page-picture.js": ("page-picture.js", SCRIPT),
    "/page-certificate.js": ("page-certificate.js", SCRIPT),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Permissions-Policy", "camera=(self), microphone=(), geolocation=()"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def is_page(path: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a file of the page is requested; at `/` only by clients that accept HTML."""
    return path in FILES and (path != "/" or b"text/html" in headers.get(b"accept", b""))


def page_reply(path: str, headers: Mapping[bytes, bytes]) -> HttpReply | None:
    """A file of the page; None where something else is requested."""
    if not is_page(path, headers):
        return None
    content, tag = _file(path)
    # no-cache: revalidated each time, so that page and server are of one release
    kept = (("ETag", tag), ("Cache-Control", "no-cache"), *((("Vary", "Accept"),) if path == "/" else ()))
    status = 304 if tag.encode() in headers.get(b"if-none-match", b"") else 200
    return HttpReply(status, content, FILES[path][1], (*kept, *HEADERS))


@cache
def _file(path: str) -> tuple[bytes, str]:
    """Content and entity tag; read at the first request."""
    content = (FOLDER / FILES[path][0]).read_bytes()
    return content, f'"{sha256(content).hexdigest()[:24]}"'
