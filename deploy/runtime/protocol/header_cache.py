"""What the JSON of earlier requests said, checked: most clients send the same one before each picture.

To parse and check it again, and to write the same JSON before each answer, took a third of all that Python does for a
request (docs/lab.md). Only tensors behind the JSON or in shared memory are taken so: nothing but their length is ever
checked, so that the same JSON before as many bytes means the same. Knows no HTTP. Used on one thread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.runtime.protocol.requests import InferenceRequest, RawInput, ReadRegion, ResponseHeader, parse_body
from deploy.runtime.protocol.shared_memory import RegionSlice
from deploy.runtime.protocol.tensors import array_from_bytes
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

MAX_HEADERS, MAX_HEADER_BYTES = 64, 4 << 10  # of kept JSON: how many, and how long each may be


class CachedInput(NamedTuple):
    """A tensor, and where its bytes are: from `start` on behind the JSON, or in shared memory."""

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
    """size: bytes behind the JSON; like: a call with this JSON, without its tensors."""

    inputs: tuple[CachedInput, ...]
    size: int
    template: InferenceRequest

    def build(self, rest: memoryview, read: ReadRegion) -> InferenceRequest:
        feeds = {one.name: one.array(rest, read) for one in self.inputs}
        like = self.template
        return InferenceRequest(
            feeds, (), like.outputs, like.id, like.timeout_us, like.timings, (), like.response_header
        )


class HeaderCache:
    """call_from_body() of one model, with the newest JSONs kept."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
    ) -> None:
        self._inputs, self._outputs, self._preprocessing = inputs, outputs, preprocessing
        self._headers: dict[bytes, CachedHeader] = {}

    def parse(self, body: memoryview, header_bytes: int | None, read: ReadRegion) -> InferenceRequest:
        """See call_from_body."""
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
            {}, (), call.outputs, call.id, call.timeout_us, call.timings, (), _response_header(call)
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
    """None where the JSON of no two answers is the same."""
    same = all((wanted.binary or wanted.region) and not wanted.classes for wanted in call.outputs)
    return ResponseHeader() if same and not call.timings else None
