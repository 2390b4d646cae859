"""Inference over HTTP: body and headers -> InferenceRequest, InferenceResult -> HttpReply, errors -> statuses."""

from collections.abc import Hashable, Mapping

from deploy.runtime.http.messages import HttpReply, HttpRequest, SendReply, error_reply
from deploy.runtime.inference.handler import LONG_BYTES, TRACE_HEADERS, InferenceHandler, SpanAttributes
from deploy.runtime.protocol.requests import InferenceRequest, RequestedOutput
from deploy.runtime.protocol.responses import encode_image_response, encode_response
from deploy.runtime.protocol.shared_memory import RegionAccess, SharedMemoryPolicy
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from toolchain.errors import RequestError, ToolchainError

HEADER_LENGTH = b"inference-header-content-length"
TEXT_COPIES = 8  # bytes that a byte of JSON takes on its way to an array: copies without brackets, and int64 from "0,"


class HttpAdapter:
    """See RequestAdapter. shared: who may use shared memory."""

    def __init__(
        self, handler: InferenceHandler, request: HttpRequest, send: SendReply, shared: SharedMemoryPolicy
    ) -> None:
        self._handler, self._request, self._send = handler, request, send
        self._regions = RegionAccess(handler.regions, shared, lambda: request.caller.is_local)
        self.client: Hashable = request.caller
        self.budget_client: Hashable = request.caller.client
        self._is_image = request.headers.get(b"content-type", b"").startswith(b"image/")
        self.is_heavy = self._is_image or _json_bytes(request) > LONG_BYTES

    def is_gone(self) -> bool:
        return self._request.caller.is_gone()

    def parse(self) -> InferenceRequest:
        request = self._request
        if request.headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestError("Content-Encoding is not supported here; send the body as it is")
        if self._is_image:
            wanted = tuple(RequestedOutput(spec.name) for spec in self._handler.bundle.manifest.outputs)
            return InferenceRequest({}, (bytes(request.body),), wanted)
        length = request.headers.get(HEADER_LENGTH)
        if length is not None and not _is_size(length):
            raise RequestError("Inference-Header-Content-Length: expected a whole number of bytes")
        header_bytes = None if length is None else int(length)
        if self.is_heavy:
            text_bytes = min(_json_bytes(request), len(request.body))
            with self._handler.budget.reserve_to_read(text_bytes * TEXT_COPIES, self.budget_client):
                call = self._handler.header_cache.parse(request.body, header_bytes, self._regions.read)
        else:
            call = self._handler.header_cache.parse(request.body, header_bytes, self._regions.read)
        self._regions.check_access(one.region for one in call.outputs)
        return call

    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> HttpReply:
        manifest = self._handler.bundle.manifest
        told = (manifest.name, manifest.release, manifest.labels)
        if self._is_image:
            times_ms = {stage: round(seconds * 1e3, 3) for stage, seconds in times.items() if stage != "parse"}
            return HttpReply(200, encode_image_response(answer.outputs, *told, times_ms))
        parameters = (
            {f"{stage}_ms": round(seconds * 1e3, 3) for stage, seconds in times.items()} if call.timings else {}
        )
        body, header = encode_response(call, answer.outputs, *told, parameters, self._handler.regions.write)
        if header is None:
            return HttpReply(200, body)
        return HttpReply(200, body, "application/octet-stream", (("Inference-Header-Content-Length", str(header)),))

    def send(self, outcome: HttpReply | ToolchainError) -> None:
        self._send(outcome if isinstance(outcome, HttpReply) else reply_for(outcome))

    def span_attributes(self, outcome: InferenceOutcome) -> SpanAttributes:
        request, last = self._request, "versions/{version}/infer" if "/versions/" in self._request.path else "infer"
        route = f"/v2/models/{{name}}/{last}"
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "http.route": route,
            "url.path": request.path,
            "http.response.status_code": 200 if isinstance(outcome, InferenceResult) else reply_for(outcome).status,
        }
        found = {name: request.headers.get(name.encode(), b"").decode("latin-1") for name in TRACE_HEADERS}
        return SpanAttributes(f"{request.method} {route}", attributes, found)


def reply_for(error: ToolchainError) -> HttpReply:
    """The reply to a request that got no inference."""
    match error:
        case RequestError():
            return error_reply(400, str(error))
        case Unavailable():
            return error_reply(503, str(error), (("Retry-After", str(error.retry_after_s)),))
        case ClientDisconnected():  # a client that has only closed its half still reads it
            return error_reply(503, f"{error}: keep your half of the connection open", (("Retry-After", "1"),))
        case DeadlineExceeded():
            return error_reply(504, str(error))
        case _:
            return error_reply(500, str(error))


def _json_bytes(request: HttpRequest) -> int:
    length = request.headers.get(HEADER_LENGTH, b"")
    return int(length) if _is_size(length) else len(request.body)


def _is_size(text: bytes) -> bool:
    """Python refuses to parse a number of thousands of digits; no size here has more than eleven."""
    return text.isdigit() and len(text) < 12
