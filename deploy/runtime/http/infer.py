"""Inference over HTTP: body and headers -> InferenceRequest, InferenceResult -> HttpReply, errors -> statuses."""

from collections.abc import Hashable, Mapping

from deploy.runtime.content.coding import (
    SMALLEST_REPLY_BYTES,
    Inflater,
    UnpackedTooLarge,
    UnsupportedCoding,
    accepted_coding,
    content_coding,
    pack_reply,
)
from deploy.runtime.content.form import read_form_images
from deploy.runtime.content.kinds import BodyKind, body_kind
from deploy.runtime.http.messages import HttpReply, HttpRequest, SendReply, error_reply
from deploy.runtime.inference.handler import LONG_BYTES, TRACE_HEADERS, InferenceHandler, SpanAttributes
from deploy.runtime.protocol.requests import HEADER_LENGTH, InferenceRequest, image_request, parse_body
from deploy.runtime.protocol.responses import encode_image_response, encode_response
from deploy.runtime.protocol.shared_memory import RegionAccess, SharedMemoryPolicy
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from deploy.runtime.scheduling.memory_budget import Reservation
from toolchain.errors import RequestError, ToolchainError

LENGTH_KEY = HEADER_LENGTH.lower().encode()  # of a request; the parser writes names so
UNPACKED_COPIES = 2  # of a compressed body: in pieces and joined, then joined and as a tensor
COPIED_BYTES = 256 << 10  # of images: fewer are bounded by the queue's length
TEXT_COPIES = 8  # bytes that a byte of JSON takes on its way to an array: copies without brackets, and int64 from "0,"


class HttpAdapter:
    """See RequestAdapter. shared: who may use shared memory; max_bytes: of a body once it is unpacked."""

    def __init__(
        self,
        handler: InferenceHandler,
        request: HttpRequest,
        send: SendReply,
        shared: SharedMemoryPolicy,
        max_bytes: int,
    ) -> None:
        self._handler, self._request, self._send, self._max_bytes = handler, request, send, max_bytes
        self.client: Hashable = request.caller
        self.budget_client: Hashable = request.caller.client
        # until the reply, for what does not lie in the body
        self._reservation = Reservation(handler.budget, self.budget_client)
        # not a method of this object: in a cycle, what is unpacked would stay until Python's collector runs
        reserve = self._reservation.grow
        self._regions = RegionAccess(handler.regions, shared, lambda: request.caller.is_local, reserve)
        self._body = request.body
        self._length = request.headers.get(LENGTH_KEY)
        self._coding = request.headers.get(b"content-encoding")
        self._inflater: Inflater | None = None
        self._kind = self._find_kind()
        self.is_heavy = self._kind != "protocol" or self._coding is not None or self._json_bytes() > LONG_BYTES

    def _find_kind(self) -> BodyKind:
        """Where a header says how long the JSON is, tensors follow it."""
        if self._length is not None:
            return "protocol"
        return body_kind(self._request.headers.get(b"content-type", b""), self._body)

    def _json_bytes(self) -> int:
        length = self._length
        return int(length) if length is not None and _is_size(length) else len(self._body)

    def is_gone(self) -> bool:
        return self._request.caller.is_gone()

    def unpack(self) -> bool:
        if self._coding is None or not (coding := content_coding(self._coding)):
            return True
        if self._inflater is None:
            self._inflater = Inflater(self._body, coding, self._max_bytes, self._reservation, UNPACKED_COPIES)
        if not self._inflater.step():
            return False
        self._body = self._inflater.content
        self._kind = self._find_kind()
        return True

    def parse(self) -> InferenceRequest:
        call = self._parse_body()
        if (size := sum(map(len, call.images))) > COPIED_BYTES:
            self._reservation.grow(size)  # they wait to be decoded as copies, beside the body
        return call

    def _parse_body(self) -> InferenceRequest:
        outputs = self._handler.bundle.manifest.outputs
        if self._kind == "image":
            return image_request((bytes(self._body),), outputs)
        if self._kind == "form":
            with self._handler.budget.reserve(len(self._body), self.budget_client):
                kind = self._request.headers[b"content-type"]
                return image_request(read_form_images(bytes(self._body), kind), outputs)
        call = self._parse_protocol()
        self._regions.check_access(one.region for one in call.outputs)
        return call

    def _parse_protocol(self) -> InferenceRequest:
        length = self._length
        if length is not None and not _is_size(length):
            raise RequestError(f"{HEADER_LENGTH}: expected a whole number of bytes")
        header_bytes = None if length is None else int(length)
        if not self.is_heavy:
            return self._handler.header_cache.parse(self._body, header_bytes, self._regions.read)
        text_bytes, manifest = min(self._json_bytes(), len(self._body)), self._handler.bundle.manifest
        with self._handler.budget.reserve_to_read(text_bytes * TEXT_COPIES, self.budget_client):
            return parse_body(
                self._body,
                header_bytes,
                manifest.inputs,
                manifest.outputs,
                self._regions.read,
                manifest.preprocessing,
            )

    def encode(self, call: InferenceRequest, answer: InferenceResult, times: Mapping[str, float]) -> HttpReply:
        manifest = self._handler.bundle.manifest
        told = (manifest.name, manifest.release, manifest.labels)
        if self._kind != "protocol":
            times_ms = {stage: round(seconds * 1e3, 3) for stage, seconds in times.items() if stage != "parse"}
            reply = encode_image_response(call, answer.outputs, *told, times_ms, manifest.output)
            return self._pack(HttpReply(200, reply))
        parameters = (
            {f"{stage}_ms": round(seconds * 1e3, 3) for stage, seconds in times.items()} if call.timings else {}
        )
        write = self._handler.regions.write
        body, header = encode_response(call, answer.outputs, *told, parameters, write, manifest.output)
        if header is None:
            return self._pack(HttpReply(200, body))
        length = (HEADER_LENGTH, str(header))
        return self._pack(HttpReply(200, body, "application/octet-stream", (length,)))

    def _pack(self, reply: HttpReply) -> HttpReply:
        """Compressed, where the client asks for it and it pays."""
        if len(reply.body) < SMALLEST_REPLY_BYTES:
            return reply
        coding = accepted_coding(self._request.headers.get(b"accept-encoding", b""))
        if not coding:
            return reply
        headers = (*reply.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
        return HttpReply(reply.status, pack_reply(reply.body, coding), reply.content_type, headers)

    def send(self, outcome: HttpReply | ToolchainError) -> None:
        if self._reservation.size_bytes:
            self._reservation.release()
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
            return _refusal_of(error)
        case Unavailable():
            return error_reply(503, str(error), (("Retry-After", str(error.retry_after_s)),))
        case ClientDisconnected():  # a client that has only closed its half still reads it
            return error_reply(503, f"{error}: keep your half of the connection open", (("Retry-After", "1"),))
        case DeadlineExceeded():
            return error_reply(504, str(error))
        case _:
            return error_reply(500, str(error))


def _refusal_of(error: RequestError) -> HttpReply:
    if isinstance(error, UnsupportedCoding):
        return error_reply(415, str(error), (("Accept-Encoding", "gzip, deflate"),))
    return error_reply(413 if isinstance(error, UnpackedTooLarge) else 400, str(error))


def _is_size(text: bytes) -> bool:
    """Python refuses to parse a number of thousands of digits; no size here has more than eleven."""
    return text.isdigit() and len(text) < 12
