"""Bytes of an Open Inference Protocol v2 request -> arrays. Pure functions; every flaw is a RequestError that names it.

The protocol: github.com/kserve/open-inference-protocol; the binary tensor data extension (JSON header, then the raw
tensors one after another, `binary_data_size` each) and raw requests (header of 0 bytes, one tensor) as NVIDIA Triton
documents them; shared memory: sharedmemory.py. Knows nothing of HTTP, of pictures' decoding, nor of the engine.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import msgspec
import numpy as np

from deploy.runtime.protocol import denormalize as normalized
from deploy.runtime.protocol.shared_memory import Place, not_offered, place_of
from deploy.runtime.protocol.tensors import Parameters, Tensor, array_from, pictures_from, words
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

NOTHING = (b"", b"null")  # JSON data that is not there
MAX_JSON_BYTES = 16 << 20  # numbers take some twenty times their text's size on the way to an array


class Output(msgspec.Struct):
    """An output as the JSON asks for it."""

    name: str
    parameters: Parameters = {}


class Body(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    outputs: list[Output] = []
    id: str = ""
    parameters: Parameters = {}


class Wanted(msgspec.Struct, frozen=True):
    """An output to send. classes: how many of the best, as 'score:index:label'; 0: the tensor itself. place: of shared
    memory, None: in the reply."""

    name: str
    binary: bool = False
    classes: int = 0
    place: Place | None = None


class Plain(NamedTuple):
    """An input as the engine takes it, behind the JSON or in shared memory: only its length was to be checked."""

    name: str
    array: Array
    place: Place | None


class Heading:
    """The JSON before the newest answer to requests like this one, and the shapes of that one's outputs."""

    shapes: tuple[tuple[int, ...], ...] = ()
    text = b""


class Call(msgspec.Struct, frozen=True):
    """A request, checked against the model. pictures: encoded, still to be decoded into the only input. timings: tell
    the time of each stage in the reply's parameters. plain: the inputs, where all are so; heading: see repeats.py."""

    feeds: dict[str, Array]
    pictures: tuple[bytes, ...]
    wanted: tuple[Wanted, ...]
    id: str = ""
    timeout_us: int | None = None
    timings: bool = False
    plain: tuple[Plain, ...] = ()
    heading: Heading | None = None


Read = Callable[[Place], memoryview]


def call_from_raw(body: memoryview, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Call:
    """A body that is nothing but the only input's bytes; the answer is binary too."""
    if len(inputs) != 1:
        raise RequestError(f"a raw body needs a model with one input; this one has {len(inputs)}: send a JSON header")
    spec = inputs[0]
    one = prod(axis for axis in spec.shape if axis is not None) * np.dtype(spec.dtype).itemsize
    if not len(body) or len(body) % one or (None not in spec.shape and len(body) != one):
        raise RequestError(f"input '{spec.name}': expected {spec}, {one} bytes each, got {len(body)} bytes")
    shape = [len(body) // one if axis is None else axis for axis in spec.shape]
    array = np.frombuffer(body, spec.dtype).reshape(shape)
    return Call({spec.name: array}, (), tuple(Wanted(output.name, binary=True) for output in outputs))


def call_from_body(
    body: memoryview,
    header_bytes: int | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    read: Read = not_offered,
    preprocessing: Preprocessing | None = None,
) -> Call:
    """The request in `body`, whose first `header_bytes` (None: all) are JSON and the rest binary tensors; `read`: what
    lies in shared memory."""
    if header_bytes == 0:
        return call_from_raw(body, inputs, outputs)
    end = len(body) if header_bytes is None else header_bytes
    if end > len(body):
        raise RequestError(f"Inference-Header-Content-Length is {end}, the body has only {len(body)} bytes")
    asked = _parsed(body[:end])
    return call_from(asked, _raws(asked.inputs, body[end:]), inputs, outputs, read, preprocessing)


def call_from(
    asked: Body,
    raws: Sequence[memoryview | None],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    read: Read,
    preprocessing: Preprocessing | None = None,
) -> Call:
    """The same from its parts; raws: each input's bytes, None: it has JSON data or lies in shared memory.

    preprocessing: what float32 pictures were normalized by; None: none are taken."""
    feeds, pictures, plain = _tensors(asked.inputs, raws, {spec.name: spec for spec in inputs}, read, preprocessing)
    timeout = asked.parameters.get("timeout")
    if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 0):
        raise RequestError(f"parameter 'timeout': expected microseconds as a whole number, got {words(timeout)}")
    timings = _flag(asked.parameters, "timings", False)
    return Call(feeds, pictures, _wanted(asked, outputs), asked.id, timeout or None, timings, plain)


def _parsed(text: memoryview) -> Body:
    if len(text) > MAX_JSON_BYTES:
        raise RequestError(f"JSON of {len(text)} bytes: expected at most {MAX_JSON_BYTES}; send the tensors as binary")
    try:
        return msgspec.json.decode(text, type=Body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(f"the request's JSON: {error}") from error
    except RecursionError as error:
        raise RequestError("the request's JSON is nested too deeply") from error


def _raws(tensors: Sequence[Tensor], rest: memoryview) -> list[memoryview | None]:
    """Each tensor's own bytes of `rest`."""
    raws: list[memoryview | None] = []
    for tensor in tensors:
        raw, rest = _taken(tensor, rest)
        raws.append(raw)
    if len(rest):
        raise RequestError(f"{len(rest)} bytes are left over after the last binary tensor; check binary_data_size")
    return raws


def _tensors(
    tensors: Sequence[Tensor],
    raws: Sequence[memoryview | None],
    specs: dict[str, TensorSpec],
    read: Read,
    preprocessing: Preprocessing | None,
) -> tuple[dict[str, Array], tuple[bytes, ...], tuple[Plain, ...]]:
    feeds: dict[str, Array] = {}
    plain: list[Plain] = []
    pictures: tuple[bytes, ...] = ()
    for tensor, given in zip(tensors, raws, strict=True):
        if tensor.name not in specs:
            raise RequestError(f"no input '{words(tensor.name)}': the model has {', '.join(specs)}")
        if tensor.name in feeds or pictures:
            raise RequestError(f"input '{tensor.name}' is given twice")
        spec = specs[tensor.name]
        place = place_of(tensor.parameters, tensor.name)
        if place is not None and (given is not None or bytes(tensor.data) not in NOTHING):
            raise RequestError(f"input '{tensor.name}' lies in shared memory and in the request: expected one of them")
        raw = given if place is None else read(place)
        if tensor.datatype == "BYTES" and len(specs) == 1:
            pictures = pictures_from(tensor, raw)
        elif preprocessing and normalized.takes(spec, tensor.datatype, tensor.shape, preprocessing):
            floats = TensorSpec(spec.name, "float32", (None, *tensor.shape[1:]))
            feeds[tensor.name] = normalized.pixels(tensor.name, array_from(tensor, raw, floats), preprocessing)
        else:
            feeds[tensor.name] = array_from(tensor, raw, spec)
            plain += [Plain(tensor.name, feeds[tensor.name], place)] if raw is not None else []
    missing = [f"'{name}'" for name in specs if name not in feeds]
    if missing and not pictures:
        raise RequestError(f"input {missing[0]} is missing: expected {next(iter(specs.values()))}")
    return feeds, pictures, tuple(plain) if len(plain) == len(tensors) else ()


def _taken(tensor: Tensor, rest: memoryview) -> tuple[memoryview | None, memoryview]:
    """The tensor's own bytes (None: it has JSON data) and those after it."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None, rest
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RequestError(f"input '{tensor.name}': binary_data_size must be a whole number, got {words(size)}")
    if bytes(tensor.data) not in NOTHING:
        raise RequestError(f"input '{tensor.name}' has both data and binary_data_size: expected one of them")
    if size > len(rest):
        raise RequestError(f"input '{tensor.name}': binary_data_size is {size}, the body has {len(rest)} bytes left")
    return rest[:size], rest[size:]


def _wanted(asked: Body, outputs: Sequence[TensorSpec]) -> tuple[Wanted, ...]:
    binary = _flag(asked.parameters, "binary_data_output", False)
    if not asked.outputs:
        return tuple(Wanted(spec.name, binary) for spec in outputs)
    names = [spec.name for spec in outputs]
    for output in asked.outputs:
        if output.name not in names:
            raise RequestError(f"no output '{words(output.name)}': the model has {', '.join(names)}")
    if len({output.name for output in asked.outputs}) < len(asked.outputs):
        raise RequestError("an output is asked for twice")
    return tuple(
        Wanted(
            output.name,
            _flag(output.parameters, "binary_data", binary),
            _classes(output),
            place_of(output.parameters, output.name),
        )
        for output in asked.outputs
    )


def _classes(output: Output) -> int:
    count = output.parameters.get("classification", 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise RequestError(f"output '{output.name}': classification must be a whole number, got {words(count)}")
    return count


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"parameter '{name}': expected true or false, got {words(value)}")
    return value
