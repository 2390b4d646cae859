"""HTTP/1.1 messages as values: the head of a request (parsed by httptools), a reply and its bytes. No sockets here."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import Protocol

import httptools
import msgspec

VERSIONS = ("1.0", "1.1")
ABSOLUTE = re.compile(rb"https?://[^/?#@\s]+(/[^?\s]*)?(\?\S*)?", re.IGNORECASE)


class Caller(Protocol):
    """The client. is_gone(): whether it has closed its side; is_local: on this host (loopback, or a Unix socket);
    client: see Limits.client_of."""

    def __hash__(self) -> int: ...
    def is_gone(self) -> bool: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def client(self) -> str | None: ...


class HttpRequest(msgspec.Struct, frozen=True):
    """`path` as sent, without the query; header names in lower case."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: memoryview
    caller: Caller


class HttpReply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


SendReply = Callable[[HttpReply], None]


class HTTPError(Exception):
    """An error that ends its connection: HTTP status, metrics label, a sentence for the client, further headers."""

    def __init__(self, status: int, reason: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Error(msgspec.Struct, frozen=True):
    """The body of every refusal: what is wrong, what was expected, what to do."""

    error: str


def error_reply(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> HttpReply:
    return HttpReply(status, msgspec.json.encode(Error(message)), headers=headers)


@lru_cache
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


def reply_bytes(reply: HttpReply, close: bool, body: bool = True) -> bytes:
    """A reply on the wire; body: False for HEAD, whose Content-Length is sent all the same, as for a 304."""
    lines = [_status_line(reply.status), f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in reply.headers]
    lines.append("Connection: close\r\n\r\n" if close else "Connection: keep-alive\r\n\r\n")
    head = "".join(lines).encode("latin-1")
    return head + reply.body if body and reply.status != 304 else head


@dataclass(slots=True)
class RequestHead:
    """httptools' callbacks for one request, and the chunks of a chunked body."""

    url: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    chunks: bytearray = field(default_factory=bytearray)
    is_keep_alive: bool = True
    headers_done: bool = False
    message_done: bool = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A repeated name becomes one list (RFC 9110, 5.3), never its last value alone: a proxy in front may have used
        the first. Trailers are dropped: a request's meaning is settled before its body."""
        if not self.headers_done:
            name = name.lower()
            self.headers[name] = b", ".join((self.headers[name], value)) if name in self.headers else value

    def on_headers_complete(self) -> None:
        self.headers_done = True

    def on_body(self, body: bytes) -> None:
        self.chunks += body

    def on_message_complete(self) -> None:
        self.message_done = True


def parse_head(block: memoryview) -> tuple[RequestHead, httptools.HttpRequestParser]:
    """The head in `block`, which ends with an empty line; HTTPError 400."""
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        pass  # a server may ignore the offer (curl --http2); a body is read by its length
    except httptools.HttpParserError as error:
        raise HTTPError(400, "malformed", f"not an HTTP/1.1 request: {error}") from error
    if not head.headers_done:
        raise HTTPError(400, "malformed", "not an HTTP/1.1 request: the head does not end")
    if parser.get_http_version() not in VERSIONS:
        raise HTTPError(400, "malformed", f"HTTP/{parser.get_http_version()} is not supported; expected HTTP/1.1")
    if not head.url.startswith(b"/"):
        head.url = origin_form(head.url)
    if b"," in head.headers.get(b"host", b""):
        raise HTTPError(400, "malformed", "more than one Host; a proxy in front may have used another one")
    head.is_keep_alive = is_keep_alive(parser.get_http_version(), head.headers.get(b"connection", b""))
    return head, parser


def origin_form(target: bytes) -> bytes:
    """Path and query of an absolute target, as a client sends it that takes this server for a proxy (RFC 9112, 3.2.2).
    Its host is not looked at, nor is Host: there is one model here. Other targets (`*`) stay what they are."""
    if b"://" not in target:
        return target
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise HTTPError(400, "malformed", "a target that is neither a path nor http://HOST/PATH")
    return (match[1] or b"/") + (match[2] or b"")


@lru_cache(maxsize=64)
def _parse_once(block: bytes) -> tuple[RequestHead, httptools.HttpRequestParser]:
    return parse_head(memoryview(block))


def parse_head_cached(block: memoryview) -> tuple[RequestHead, httptools.HttpRequestParser]:
    """parse_head(), cached: most heads of a client are identical. Not for heads that may hold a secret."""
    found = _parse_once(bytes(block))
    return (
        parse_head(block) if b"transfer-encoding" in found[0].headers else found
    )  # a chunked body needs its own parser


def is_keep_alive(version: str, connection: bytes) -> bool:
    """The Connection header by RFC 9112, 9.3. The parser knows it too, but forgets it at the end of a message, which is
    the end of the head where there is no body."""
    if not connection:
        return version == "1.1"
    options = {option.strip() for option in connection.lower().split(b",")}
    return b"close" not in options and (version == "1.1" or b"keep-alive" in options)
