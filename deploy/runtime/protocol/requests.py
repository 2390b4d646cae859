"""Bytes of an Open Inference Protocol v2 request -> arrays. Pure functions; a RequestError names whatever is wrong.

The protocol: github.com/kserve/open-inference-protocol; the binary tensor data extension (a JSON header, then the raw
tensors one after another, `binary_data_size` bytes each) and raw requests (header of 0 bytes, one tensor) as NVIDIA
Triton documents them; shared memory: shared_memory.py. Knows nothing of HTTP, image decoding or the engine.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from deploy.runtime.protocol.denormalize import denormalize, is_normalized_image
from deploy.runtime.protocol.shared_memory import RegionSlice, refuse_region, region_slice_of
from deploy.runtime.protocol.tensors import Parameters, Tensor, array_from_tensor, images_from_tensor, printable
from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

HEADER_LENGTH = "Inference-Header-Content-Length"  # of HTTP: how many bytes of the body are JSON
NO_DATA = (b"", b"null")  # values of absent JSON data
DEFAULT_TOP_K = 5  # of an image; tensors get none, unless they ask for it
MAX_JSON_BYTES, MAX_STRINGS = 16 << 20, 10_000
MAX_ID = 10_000  # letters: the reply repeats it
MAX_AXES, MAX_SHAPE_BYTES = 32, 1000  # of a tensor, and of its shape in JSON


class OutputEntry(msgspec.Struct):
    """An output that a request names, and how to send it."""

    name: str
    parameters: Parameters = {}


class RequestBody(msgspec.Struct):
    """The JSON of an inference request; without `outputs`: all of them."""

    inputs: list[Tensor]
    outputs: list[OutputEntry] = []
    id: str = ""
    parameters: Parameters = {}


class _InputShape(msgspec.Struct):
    shape: msgspec.Raw


class _InputShapes(msgspec.Struct):
    """Of a request only the text of its shapes."""

    inputs: list[_InputShape]


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output to send. classes: how many of the best classes, as 'score:index:label'; 0: the tensor itself. region: a
    slice of shared memory; None: in the reply."""

    name: str
    binary: bool = False
    classes: int = 0
    region: RegionSlice | None = None


class RawInput(NamedTuple):
    """An input in the engine's own form, after the JSON or in shared memory: only its length had to be checked."""

    name: str
    array: Array
    region: RegionSlice | None


class ResponseHeader:
    """The JSON header of the newest reply to requests like this one, and the shapes of that reply's outputs."""

    shapes: tuple[tuple[int, ...], ...] = ()
    text = b""


class InferenceRequest(msgspec.Struct, frozen=True):
    """A request, checked against the model. images: encoded, still to be decoded into the only input. timings: return
    the time of each stage in the reply's parameters. top_k: how many of the best classes the reply names for each
    image, see top_k.py. raw_inputs: the inputs, where all are raw; response_header: see header_cache.py."""

    feeds: dict[str, Array]
    images: tuple[bytes, ...]
    outputs: tuple[RequestedOutput, ...]
    id: str = ""
    timeout_us: int | None = None
    timings: bool = False
    top_k: int = 0
    raw_inputs: tuple[RawInput, ...] = ()
    response_header: ResponseHeader | None = None


ReadRegion = Callable[[RegionSlice], memoryview]


def image_request(images: tuple[bytes, ...], outputs: Sequence[TensorSpec]) -> InferenceRequest:
    """Of image files alone."""
    wanted = tuple(RequestedOutput(spec.name) for spec in outputs)
    return InferenceRequest({}, images, wanted, top_k=DEFAULT_TOP_K)


def parse_raw_body(body: memoryview, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> InferenceRequest:
    """A body that is only the one input's bytes; the reply is binary too."""
    if len(inputs) != 1:
        raise RequestError(f"a raw body needs a model with one input; this one has {len(inputs)}: send a JSON header")
    spec = inputs[0]
    one = prod(axis for axis in spec.shape if axis is not None) * np.dtype(spec.dtype).itemsize
    if not len(body) or len(body) % one or (None not in spec.shape and len(body) != one):
        raise RequestError(f"input '{spec.name}': expected {spec}, {one} bytes each, got {len(body)} bytes")
    shape = [len(body) // one if axis is None else axis for axis in spec.shape]
    array = np.frombuffer(body, spec.dtype).reshape(shape)
    return InferenceRequest(
        {spec.name: array}, (), tuple(RequestedOutput(output.name, binary=True) for output in outputs)
    )


def parse_body(
    body: memoryview,
    header_bytes: int | None,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    read: ReadRegion = refuse_region,
    preprocessing: Preprocessing | None = None,
) -> InferenceRequest:
    """The request in `body`, whose first `header_bytes` (None: all) are JSON and the rest binary tensors; read: reads a
    slice of shared memory."""
    if header_bytes == 0:
        return parse_raw_body(body, inputs, outputs)
    end = len(body) if header_bytes is None else header_bytes
    if end > len(body):
        raise RequestError(f"{HEADER_LENGTH} is {end}, the body has only {len(body)} bytes")
    asked = _parse_json(body[:end])
    return build_request(asked, _split_binary(asked.inputs, body[end:]), inputs, outputs, read, preprocessing)


def build_request(
    body: RequestBody,
    raws: Sequence[memoryview | None],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    read: ReadRegion,
    preprocessing: Preprocessing | None = None,
) -> InferenceRequest:
    """The request from its parsed JSON and `raws`, each input's bytes (None: it has JSON data or lies in shared
    memory).

    preprocessing: by which images of floats are normalized; None: such images are not accepted.
    """
    if len(body.id) > MAX_ID:
        raise RequestError(f"an id of {len(body.id)} letters: expected at most {MAX_ID}")
    feeds, pictures, plain = _build_feeds(body.inputs, raws, {spec.name: spec for spec in inputs}, read, preprocessing)
    timeout = body.parameters.get("timeout")
    if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 0):
        raise RequestError(f"parameter 'timeout': expected microseconds as a whole number, got {printable(timeout)}")
    timings = _flag(body.parameters, "timings", False)
    top_k = _count(body.parameters, "top_k", DEFAULT_TOP_K if pictures else 0, "parameter 'top_k'")
    return InferenceRequest(
        feeds, pictures, _requested_outputs(body, outputs), body.id, timeout or None, timings, top_k, plain
    )


def _parse_json(text: memoryview) -> RequestBody:
    if len(text) > MAX_JSON_BYTES:
        raise RequestError(f"JSON of {len(text)} bytes: expected at most {MAX_JSON_BYTES}; send the tensors as binary")
    # each becomes an object, or several: a megabyte of them would hold up all other requests for a second
    if len(text) > MAX_STRINGS and (strings := bytes(text).count(b'"') // 2) > MAX_STRINGS:
        raise RequestError(f"JSON with {strings} strings: expected at most {MAX_STRINGS}; send the tensors as binary")
    try:
        if len(text) > MAX_STRINGS:
            _check_shapes(msgspec.json.decode(text, type=_InputShapes))
        return msgspec.json.decode(text, type=RequestBody)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(f"the request's JSON: {error}") from error
    except RecursionError as error:
        raise RequestError("the request's JSON is nested too deeply") from error


def _check_shapes(found: _InputShapes) -> None:
    """Before a shape of millions of numbers becomes as many objects, in one go."""
    for number, tensor in enumerate(found.inputs):
        if (size := len(bytes(tensor.shape))) > MAX_SHAPE_BYTES:
            raise RequestError(f"inputs[{number}]: a shape of {size} bytes, expected at most {MAX_SHAPE_BYTES}")


def _split_binary(tensors: Sequence[Tensor], rest: memoryview) -> list[memoryview | None]:
    """Each tensor's own bytes from `rest`."""
    raws: list[memoryview | None] = []
    for tensor in tensors:
        raw, rest = _take_binary(tensor, rest)
        raws.append(raw)
    if len(rest):
        raise RequestError(f"{len(rest)} bytes are left over after the last binary tensor; check binary_data_size")
    return raws


def _build_feeds(
    tensors: Sequence[Tensor],
    raws: Sequence[memoryview | None],
    specs: dict[str, TensorSpec],
    read: ReadRegion,
    preprocessing: Preprocessing | None,
) -> tuple[dict[str, Array], tuple[bytes, ...], tuple[RawInput, ...]]:
    feeds: dict[str, Array] = {}
    plain: list[RawInput] = []
    pictures: tuple[bytes, ...] = ()
    for tensor, given in zip(tensors, raws, strict=True):
        if tensor.name not in specs:
            raise RequestError(f"no input '{printable(tensor.name)}': the model has {', '.join(specs)}")
        if tensor.name in feeds or pictures:
            raise RequestError(f"input '{tensor.name}' occurs twice")
        spec = specs[tensor.name]
        if len(tensor.shape) > MAX_AXES:
            raise RequestError(f"input '{tensor.name}': expected {spec}, got {len(tensor.shape)} axes")
        place = region_slice_of(tensor.parameters, tensor.name)
        if place is not None and (given is not None or bytes(tensor.data) not in NO_DATA):
            raise RequestError(f"input '{tensor.name}' lies in shared memory and in the request: expected one of them")
        raw = given if place is None else read(place)
        if tensor.datatype == "BYTES" and len(specs) == 1:
            pictures = images_from_tensor(tensor, raw)
        elif preprocessing and is_normalized_image(spec, tensor.datatype, tensor.shape, preprocessing):
            dtype: Literal["float16", "float32"] = "float16" if tensor.datatype == "FP16" else "float32"
            floats = TensorSpec(spec.name, dtype, (None, *tensor.shape[1:]))
            feeds[tensor.name] = denormalize(tensor.name, array_from_tensor(tensor, raw, floats), preprocessing)
        else:
            feeds[tensor.name] = array_from_tensor(tensor, raw, spec)
            plain += [RawInput(tensor.name, feeds[tensor.name], place)] if raw is not None else []
    missing = [f"'{name}'" for name in specs if name not in feeds]
    if missing and not pictures:
        raise RequestError(f"input {missing[0]} is missing: expected {next(iter(specs.values()))}")
    return feeds, pictures, tuple(plain) if len(plain) == len(tensors) else ()


def _take_binary(tensor: Tensor, rest: memoryview) -> tuple[memoryview | None, memoryview]:
    """The tensor's own bytes (None: it has JSON data) and those after it."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None, rest
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise RequestError(f"input '{tensor.name}': binary_data_size must be a whole number, got {printable(size)}")
    if bytes(tensor.data) not in NO_DATA:
        raise RequestError(f"input '{tensor.name}' has both data and binary_data_size: expected one of them")
    if size > len(rest):
        raise RequestError(f"input '{tensor.name}': binary_data_size is {size}, the body has {len(rest)} bytes left")
    return rest[:size], rest[size:]


def _requested_outputs(body: RequestBody, outputs: Sequence[TensorSpec]) -> tuple[RequestedOutput, ...]:
    binary = _flag(body.parameters, "binary_data_output", False)
    if not body.outputs:
        return tuple(RequestedOutput(spec.name, binary) for spec in outputs)
    names = [spec.name for spec in outputs]
    for output in body.outputs:
        if output.name not in names:
            raise RequestError(f"no output '{printable(output.name)}': the model has {', '.join(names)}")
    if len({output.name for output in body.outputs}) < len(body.outputs):
        raise RequestError("an output is requested twice")
    return tuple(
        RequestedOutput(
            output.name,
            _flag(output.parameters, "binary_data", binary),
            _count(output.parameters, "classification", 0, f"output '{output.name}': classification"),
            region_slice_of(output.parameters, output.name),
        )
        for output in body.outputs
    )


def _count(parameters: Parameters, name: str, default: int, place: str) -> int:
    count = parameters.get(name, default)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise RequestError(f"{place}: expected a whole number, got {printable(count)}")
    return count


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"parameter '{name}': expected true or false, got {printable(value)}")
    return value
