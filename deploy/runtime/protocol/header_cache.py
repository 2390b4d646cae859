"""A cache of parsed JSON headers: most clients send the same header before each image.

Parsing and checking it again, and encoding the same JSON before each reply, took a third of Python's time per request
(docs/lab.md). Only requests whose tensors follow the JSON or lie in shared memory are cached: of such tensors only the
length is checked, so the same header before as many bytes means the same. Knows no HTTP. Used on one thread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.runtime.protocol.requests import InferenceRequest, RawInput, ReadRegion, ResponseHeader, parse_body
from deploy.runtime.protocol.shared_memory import RegionSlice
from deploy.runtime.protocol.tensors import array_from_bytes
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

MAX_HEADERS, MAX_HEADER_BYTES = 64, 4 << 10  # cached headers, and bytes of each


class CachedInput(NamedTuple):
    """A tensor, and where its bytes are: from `start` after the JSON, or in shared memory."""

    name: str
    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]
    start: int
    end: int
    place: RegionSlice | None

    def array(self, rest: memoryview, read: ReadRegion) -> Array:
        raw = rest[self.start : self.end] if self.place is None else read(self.place)
        return array_from_bytes(raw, self.dtype, self.shape)


class CachedHeader(NamedTuple):
    """size: bytes after the JSON; template: a request with this JSON, without its tensors."""

    inputs: tuple[CachedInput, ...]
    size: int
    template: InferenceRequest

    def build(self, rest: memoryview, read: ReadRegion) -> InferenceRequest:
        feeds = {one.name: one.array(rest, read) for one in self.inputs}
        like = self.template
        return InferenceRequest(
            feeds, (), like.outputs, like.id, like.timeout_us, like.timings, like.top_k, (), like.response_header
        )


class HeaderCache:
    """parse_body() for one model, with the newest headers cached."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
    ) -> None:
        self._inputs, self._outputs, self._preprocessing = inputs, outputs, preprocessing
        self._headers: dict[bytes, CachedHeader] = {}

    def parse(self, body: memoryview, header_bytes: int | None, read: ReadRegion) -> InferenceRequest:
        """See parse_body."""
        end = len(body) if header_bytes is None else header_bytes
        text = bytes(body[:end]) if end <= MAX_HEADER_BYTES else b""
        known = self._headers.get(text)
        if known is not None and known.size == len(body) - end:
            return known.build(body[end:], read)
        call = parse_body(body, header_bytes, self._inputs, self._outputs, read, self._preprocessing)
        if text and call.raw_inputs:
            self._remember(text, call, len(body) - end)
        return call

    def _remember(self, text: bytes, call: InferenceRequest, size: int) -> None:
        while len(self._headers) >= MAX_HEADERS:
            del self._headers[next(iter(self._headers))]
        like = InferenceRequest(
            {}, (), call.outputs, call.id, call.timeout_us, call.timings, call.top_k, (), _response_header(call)
        )
        self._headers[text] = CachedHeader(_cached_inputs(call.raw_inputs), size, like)


def _cached_inputs(plain: Sequence[RawInput]) -> tuple[CachedInput, ...]:
    found, start = [], 0
    for name, array, place in plain:
        end = start + (array.nbytes if place is None else 0)
        found.append(CachedInput(name, array.dtype, array.shape, start, end, place))
        start = end
    return tuple(found)


def _response_header(call: InferenceRequest) -> ResponseHeader | None:
    """None where the JSON differs from reply to reply."""
    same = all((wanted.binary or wanted.region) and not wanted.classes for wanted in call.outputs)
    return ResponseHeader() if same and not call.timings and not call.top_k else None
