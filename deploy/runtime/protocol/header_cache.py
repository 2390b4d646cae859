"""What the JSON of earlier requests said, checked: most clients send the same one before each picture.

To parse and check it again, and to write the same JSON before each answer, took a third of all that Python does for a
request (docs/lab.md). Only tensors behind the JSON or in shared memory are taken so: nothing but their length is ever
checked, so that the same JSON before as many bytes means the same. Knows no HTTP. Used on one thread.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.runtime.protocol.requests import Call, Heading, Plain, Read, call_from_body
from deploy.runtime.protocol.shared_memory import Place
from deploy.runtime.protocol.tensors import array_of
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

MOST, MOST_BYTES = 64, 4 << 10  # of kept JSON: how many, and how long each may be


class Input(NamedTuple):
    """A tensor, and where its bytes are: from `start` on behind the JSON, or in shared memory."""

    name: str
    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]
    start: int
    end: int
    place: Place | None

    def array(self, rest: memoryview, read: Read) -> Array:
        raw = rest[self.start : self.end] if self.place is None else read(self.place)
        return array_of(raw, self.dtype, self.shape)


class Known(NamedTuple):
    """size: bytes behind the JSON; like: a call with this JSON, without its tensors."""

    inputs: tuple[Input, ...]
    size: int
    like: Call

    def call(self, rest: memoryview, read: Read) -> Call:
        feeds = {one.name: one.array(rest, read) for one in self.inputs}
        like = self.like
        return Call(feeds, (), like.wanted, like.id, like.timeout_us, like.timings, (), like.heading)


class Repeats:
    """call_from_body() of one model, with the newest JSONs kept."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], preprocessing: Preprocessing | None
    ) -> None:
        self._inputs, self._outputs, self._preprocessing = inputs, outputs, preprocessing
        self._known: dict[bytes, Known] = {}

    def call(self, body: memoryview, header_bytes: int | None, read: Read) -> Call:
        """See call_from_body."""
        end = len(body) if header_bytes is None else header_bytes
        text = bytes(body[:end]) if end <= MOST_BYTES else b""
        known = self._known.get(text)
        if known is not None and known.size == len(body) - end:
            return known.call(body[end:], read)
        call = call_from_body(body, header_bytes, self._inputs, self._outputs, read, self._preprocessing)
        if text and call.plain:
            self._keep(text, call, len(body) - end)
        return call

    def _keep(self, text: bytes, call: Call, size: int) -> None:
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        like = Call({}, (), call.wanted, call.id, call.timeout_us, call.timings, (), _heading(call))
        self._known[text] = Known(_inputs(call.plain), size, like)


def _inputs(plain: Sequence[Plain]) -> tuple[Input, ...]:
    found, start = [], 0
    for name, array, place in plain:
        end = start + (array.nbytes if place is None else 0)
        found.append(Input(name, array.dtype, array.shape, start, end, place))
        start = end
    return tuple(found)


def _heading(call: Call) -> Heading | None:
    """None where the JSON of no two answers is the same."""
    same = all((wanted.binary or wanted.place) and not wanted.classes for wanted in call.wanted)
    return Heading() if same and not call.timings else None
