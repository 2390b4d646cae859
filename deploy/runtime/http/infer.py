"""An inference request as HTTP has it: body and headers -> Call, Answer -> Reply, errors -> statuses. No sockets."""

from collections.abc import Hashable, Mapping

from deploy.runtime.http.messages import Reply, Request, Send, error_reply
from deploy.runtime.inference.handler import LONG_BYTES, TRACE, Asked, Desk
from deploy.runtime.protocol.requests import Call, Wanted
from deploy.runtime.protocol.responses import answer_body, picture_body
from deploy.runtime.protocol.shared_memory import Offer, Policy
from deploy.runtime.scheduling.errors import Expired, Gone, Unavailable
from deploy.runtime.scheduling.fair_queue import Answer, Outcome
from toolchain.errors import RequestError, ToolchainError

HEADER_LENGTH = b"inference-header-content-length"


class RestTalk:
    """See exchange.Talk. shared: who may use shared memory."""

    def __init__(self, desk: Desk, request: Request, send: Send, shared: Policy) -> None:
        self._desk, self._request, self._send = desk, request, send
        self._offer = Offer(desk.regions, shared, lambda: request.caller.is_local)
        self.client: Hashable = request.caller
        self._is_picture = request.headers.get(b"content-type", b"").startswith(b"image/")
        self.heavy = self._is_picture or _json_bytes(request) > LONG_BYTES

    def gone(self) -> bool:
        return self._request.caller.gone()

    def parsed(self) -> Call:
        request = self._request
        if request.headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestError("Content-Encoding is not supported here; send the body as it is")
        if self._is_picture:
            wanted = tuple(Wanted(spec.name) for spec in self._desk.bundle.manifest.outputs)
            return Call({}, (bytes(request.body),), wanted)
        length = request.headers.get(HEADER_LENGTH)
        if length is not None and not _is_size(length):
            raise RequestError("Inference-Header-Content-Length: expected a whole number of bytes")
        header_bytes = None if length is None else int(length)
        call = self._desk.repeats.call(request.body, header_bytes, self._offer.read)
        self._offer.check(one.place for one in call.wanted)
        return call

    def told(self, call: Call, answer: Answer, times: Mapping[str, float]) -> Reply:
        manifest = self._desk.bundle.manifest
        told = (manifest.name, manifest.release, manifest.labels)
        if self._is_picture:
            times_ms = {stage: round(seconds * 1e3, 3) for stage, seconds in times.items() if stage != "parse"}
            return Reply(200, picture_body(answer.outputs, *told, times_ms))
        parameters = (
            {f"{stage}_ms": round(seconds * 1e3, 3) for stage, seconds in times.items()} if call.timings else {}
        )
        body, header = answer_body(call, answer.outputs, *told, parameters, self._desk.regions.write)
        if header is None:
            return Reply(200, body)
        return Reply(200, body, "application/octet-stream", (("Inference-Header-Content-Length", str(header)),))

    def sent(self, outcome: Reply | ToolchainError) -> None:
        self._send(outcome if isinstance(outcome, Reply) else reply_for(outcome))

    def asked(self, outcome: Outcome) -> Asked:
        request, last = self._request, "versions/{version}/infer" if "/versions/" in self._request.path else "infer"
        route = f"/v2/models/{{name}}/{last}"
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "http.response.status_code": 200 if isinstance(outcome, Answer) else reply_for(outcome).status,
        }
        found = {name: request.headers.get(name.encode(), b"").decode("latin-1") for name in TRACE}
        return Asked(f"{request.method} {route}", attributes, found)


def reply_for(error: ToolchainError) -> Reply:
    """The reply to a request that got no inference."""
    match error:
        case RequestError():
            return error_reply(400, str(error))
        case Unavailable():
            return error_reply(503, str(error), (("Retry-After", str(error.retry_after_s)),))
        case Gone():  # no fault of ours; one that has only closed its half still reads it
            return error_reply(503, f"{error}: keep your half of the connection open", (("Retry-After", "1"),))
        case Expired():
            return error_reply(504, str(error))
        case _:
            return error_reply(500, str(error))


def _json_bytes(request: Request) -> int:
    length = request.headers.get(HEADER_LENGTH, b"")
    return int(length) if _is_size(length) else len(request.body)


def _is_size(text: bytes) -> bool:
    """Python refuses to read a number of thousands of digits; no size here has more than eleven."""
    return text.isdigit() and len(text) < 12
