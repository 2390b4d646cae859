"""One tensor of a request -> an array: JSON or binary, checked against the model's spec. Pure functions.

Knows nothing of the rest of the request. Nothing is rounded, wrapped or guessed: data that does not fit is a
RequestError with the tensor's name, what was expected and what was found.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from ctypes import addressof, c_char
from functools import lru_cache
from math import prod
from typing import Annotated, Any

import msgspec
import numpy as np

from toolchain.errors import RequestError
from toolchain.records.tensors import Array, TensorSpec

DATATYPES = {
    "uint8": "UINT8",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bool": "BOOL",
}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
# Datatypes of the protocol that no model here takes: listed, so that the message is about the model, not the word.
UNUSED_DATATYPES = ("UINT16", "UINT32", "UINT64", "BF16", "BYTES")
BLANKS = b" \t\r\n"
URL_SAFE = bytes.maketrans(b"-_", b"+/")
NUMBERS = bytes(set(range(256)) - set(b"[],"))  # and all else that is not their lists' structure
NUMBERED = re.compile(r"\$\[(\d+)\]")
PIECE_BYTES = 64 << 10  # of JSON numbers: about a millisecond
MAX_ELEMENTS = 10_000  # of a BYTES tensor: each takes four bytes in a message, and an object here
ALIGNMENT = 64  # a cache line: engines read aligned tensors in place

Parameters = dict[str, bool | int | float | str]  # as the protocol has them: no lists, no objects


class Tensor(msgspec.Struct):
    """An input of a request. data: its elements in JSON, flat or nested as its shape, where they are not sent in binary
    or in shared memory; decoded by the model's datatype."""

    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)  # as `= Raw()`, but with a JSON schema
    parameters: Parameters = {}


def aligned_buffer(size: int, offset: int = 0) -> memoryview:
    """`size` writable bytes, of which byte `offset` is aligned; pages that are never written cost no memory."""
    block = np.empty(size + ALIGNMENT, np.uint8).data
    first = -(address(block) + offset) % ALIGNMENT
    return block[first : first + size]


def address(content: memoryview) -> int:
    """The address of the first byte."""
    if content.readonly or not content:
        found: int = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
        return found
    return addressof(c_char.from_buffer(content))  # five times as fast


def array_from_bytes(raw: memoryview, dtype: "np.dtype[np.generic]", shape: Sequence[int]) -> Array:
    """The tensor with the bytes `raw`: in place when they are aligned, otherwise copied."""
    if address(raw) % ALIGNMENT:
        aligned = aligned_buffer(len(raw))
        aligned[:] = raw
        raw = aligned
    return np.ndarray(shape, dtype, raw)


def array_from_tensor(tensor: Tensor, raw: memoryview | None, spec: TensorSpec) -> Array:
    """The tensor as an array that fits `spec`."""
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None and tensor.datatype not in UNUSED_DATATYPES:
        raise RequestError(
            f"input '{tensor.name}': unknown datatype '{printable(tensor.datatype)}'; expected {DATATYPES[spec.dtype]}"
        )
    if dtype != spec.dtype or not _fits(spec, tensor.shape):
        found = f"{dtype or tensor.datatype} {printable(tensor.shape)}"
        raise RequestError(f"input '{tensor.name}': expected {spec}, got {found}")
    if raw is None:
        return _array_from_json(tensor, spec)
    expected = prod(tensor.shape) * np.dtype(dtype).itemsize
    if len(raw) != expected:
        raise RequestError(
            f"input '{tensor.name}': {spec.dtype} {tensor.shape} is {expected} bytes, got binary_data_size {len(raw)}"
        )
    return array_from_bytes(raw, np.dtype(dtype), tensor.shape)


def _fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    return len(shape) == len(spec.shape) and all(
        (0 < have < 1 << 31) if want is None else want == have for want, have in zip(spec.shape, shape, strict=True)
    )


@lru_cache
def _list_of(dtype: str) -> Any:
    """The type of a list of what `dtype` can hold."""
    kind: Any = {"f": float, "b": bool}.get(np.dtype(dtype).kind)
    if kind is None:
        kind = Annotated[
            int, msgspec.Meta(ge=int(np.iinfo(dtype).min), le=min(int(np.iinfo(dtype).max), (1 << 63) - 1))
        ]
    return list[kind]


def _array_from_json(tensor: Tensor, spec: TensorSpec) -> Array:
    """Numbers, nested as the shape or flat, row-major."""
    text, expected = bytes(tensor.data), prod(tensor.shape)
    opening = text[:1024].translate(None, BLANKS)
    depth = len(opening) - len(opening.lstrip(b"["))
    if depth not in (1, len(tensor.shape)):
        raise RequestError(f"input '{tensor.name}': expected data as a list, flat or nested as {tensor.shape}")
    count = text.count(b",") + 1
    if count != expected:
        raise RequestError(f"input '{tensor.name}': shape {tensor.shape} has {expected} elements, got data of {count}")
    if depth > 1 and text.translate(None, NUMBERS) != _nested_brackets(tensor.shape):
        raise RequestError(f"input '{tensor.name}': data is not a regular list of {spec.dtype} numbers")
    flat = text.translate(None, b"[]") if depth > 1 else text.strip(BLANKS)[1:-1]
    array = _parse_numbers(flat, expected, tensor.name, spec).reshape(tensor.shape)
    if not np.isfinite(array).all():
        raise RequestError(f"input '{tensor.name}': data has numbers that {spec.dtype} cannot hold")
    return array


def _nested_brackets(shape: Sequence[int]) -> bytes:
    """What is left of nested lists of that shape without their numbers."""
    text = b""
    for length in reversed(shape):
        text = b"[" + b",".join([text] * length) + b"]"
    return text


def _parse_numbers(text: bytes, count: int, name: str, spec: TensorSpec) -> Array:
    """Numbers between commas, a piece at a time: the parser keeps the interpreter's lock, and makes an object of each
    number."""
    array, done, at = np.empty(count, spec.dtype), 0, 0
    while at < len(text):
        end = text.find(b",", at + PIECE_BYTES)
        end = len(text) if end < 0 else end
        try:
            numbers = msgspec.json.decode(b"[" + text[at:end] + b"]", type=_list_of(spec.dtype))
        except msgspec.MsgspecError as error:
            raise RequestError(f"input '{name}': data does not fit {spec.dtype}: {_in_all(error, done)}") from error
        with np.errstate(over="ignore"):
            array[done : done + len(numbers)] = numbers
        done, at = done + len(numbers), end + 1
    if done != count:  # a comma at the end
        raise RequestError(f"input '{name}': data is not a regular list of {spec.dtype} numbers")
    return array


def _in_all(error: Exception, before: int) -> str:
    """The parser's message, with an element's place in the whole list."""
    return NUMBERED.sub(lambda match: f"$[{int(match[1]) + before}]", str(error))


def images_from_tensor(tensor: Tensor, raw: memoryview | None) -> tuple[bytes, ...]:
    """The elements of a BYTES tensor [N] or [N, 1]: length-prefixed in binary, base64 in JSON."""
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or shape[0] < 1 or (len(shape) == 2 and shape[1] != 1):
        raise RequestError(f"input '{tensor.name}': expected BYTES [N] of image files, got BYTES {printable(shape)}")
    found = _elements_from_json(tensor) if raw is None else elements_from_bytes(tensor.name, raw)
    if len(found) != shape[0]:
        raise RequestError(f"input '{tensor.name}': BYTES {shape} has {shape[0]} elements, got {len(found)}")
    return found


def elements_from_bytes(name: str, raw: memoryview) -> tuple[bytes, ...]:
    """Elements, each preceded by its length in four little-endian bytes."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(found) == MAX_ELEMENTS:
            raise RequestError(f"input '{name}': expected at most {MAX_ELEMENTS} elements, got more")
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw) or start > len(raw):
            raise RequestError(f"input '{name}': element {len(found)} ends {at} bytes in, of {len(raw)}")
        found.append(bytes(raw[start:at]))
    return tuple(found)


def _elements_from_json(tensor: Tensor) -> tuple[bytes, ...]:
    try:
        return tuple(_decode_base64(item) for item in msgspec.json.decode(tensor.data, type=list[str]))
    except msgspec.MsgspecError as error:
        raise RequestError(f"input '{tensor.name}': expected BYTES data as a list of base64 strings") from error
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"input '{tensor.name}': BYTES data is not base64 ({error})") from error


def _decode_base64(text: str) -> bytes:
    """As encoders write it: in lines, with the letters that are safe in URLs, without padding, as a data URI."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    letters = text.encode("ascii").translate(URL_SAFE, BLANKS).rstrip(b"=")
    return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)


def printable(value: object) -> str:
    """A client's value, short and plain enough for a one-line message."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value)[:61])
    return text if len(text) <= 60 else f"{text[:57]}..."
