"""Shared memory regions over HTTP, as in Triton: /v2/systemsharedmemory[/region/NAME]/status|register|unregister.

Clients unregister all regions of both kinds when they end; there are none of CUDA's, which are not supported. Pure: a
request and the regions in, a reply out. Knows no sockets, nor who may use regions.
"""

from urllib.parse import unquote

import msgspec

from deploy.runtime.http.messages import HttpReply, HttpRequest, error_reply
from deploy.runtime.protocol.shared_memory import SharedRegions
from deploy.runtime.protocol.tensors import printable
from toolchain.errors import RequestError

PREFIX, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
METHODS = {"status": "GET", "register": "POST", "unregister": "POST"}


class Registration(msgspec.Struct):
    """The body of a register call; sizes in bytes."""

    key: str
    byte_size: int
    offset: int = 0


def reply_to(regions: SharedRegions, request: HttpRequest, path: str) -> HttpReply:
    """The reply; `path` begins with PREFIX or CUDA."""
    if path.startswith(CUDA):
        return _reply_to_cuda(path.removeprefix(f"{CUDA}/"))
    parts = path.removeprefix(PREFIX).strip("/").split("/")
    name = unquote(parts[1]) if len(parts) == 3 and parts[0] == "region" else None
    verb = parts[-1]
    if (name is None and (len(parts) != 1 or verb == "register")) or verb not in METHODS:
        return error_reply(404, f"nothing at {printable(path)}; expected {PREFIX}[/region/NAME]/{'|'.join(METHODS)}")
    if request.method not in (METHODS[verb], "HEAD" if METHODS[verb] == "GET" else ""):
        words_ = f"{printable(request.method)} is not allowed here; expected {METHODS[verb]}"
        return error_reply(405, words_, (("Allow", METHODS[verb]),))
    try:
        if verb == "status":
            return HttpReply(200, msgspec.json.encode(regions.status(name)))
        if name is not None and verb == "register":
            asked = _parse_registration(request.body)
            regions.register(name, asked.key, asked.offset, asked.byte_size)
        else:
            regions.unregister(name)
    except RequestError as error:
        return error_reply(400, str(error))
    return HttpReply(200, b"")


def _reply_to_cuda(verb: str) -> HttpReply:
    if verb in ("unregister", "status"):
        return HttpReply(200, b"" if verb == "unregister" else b"[]")
    return error_reply(400, "CUDA shared memory is not supported; use system shared memory, or send the bytes")


def _parse_registration(body: memoryview) -> Registration:
    try:
        return msgspec.json.decode(body, type=Registration)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"expected a JSON object with key, byte_size and offset: {error}") from error
