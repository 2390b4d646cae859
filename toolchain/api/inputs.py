"""Images in the forms that Python has them, as tensors of the Open Inference Protocol.

An array of the model's own size is sent as its pixels; any other image as a file, which the server decodes, resizes and
crops as the recipe's [input] says. Knows no transport.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from toolchain.errors import RequestError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

PixelArray = NDArray[Any]
ImageFile = Union[str, PathLike[str], bytes, "PillowImage"]
Pictures = list[Any] | tuple[Any, ...]  # of those and arrays
MOST_BYTES = 16 << 20  # in a request: a quarter of what servers take by default (deploy/runtime/flags.py: --max-body)
EXPECTED = (
    "expected a path, a file's bytes, a PIL image, uint8 [height, width, channels] or normalized floats [channels, "
    "height, width], or several of one of them"
)


@dataclass(frozen=True)
class TensorPayload:
    """Of one request. datatype: as the protocol names it; shape[0]: how many images."""

    datatype: str
    shape: tuple[int, ...]
    content: bytes


def split_pictures(given: Any) -> tuple[list[Any], bool]:
    """(one by one, whether there may be several). RequestError for what is no image."""
    if isinstance(given, np.ndarray):
        if given.ndim == 4:
            return list(given), True
        return [given], False
    if isinstance(given, list | tuple):
        return list(given), True
    return [given], False


def encode_pictures(pictures: Sequence[Any], size: Sequence[int], most: int) -> Iterator[TensorPayload]:
    """Requests of at most `most` images each. size: the model's own, [height, width, channels]."""
    ready = [_convert(picture, tuple(size)) for picture in pictures]
    place = 0
    while place < len(ready):
        first, end, room = ready[place], place + 1, MOST_BYTES - _count_bytes(ready[place])
        while end < len(ready) and end - place < most and _goes_with(ready[end], first):
            room -= _count_bytes(ready[end])
            if room < 0:
                break
            end += 1
        yield _payload(ready[place:end])
        place = end


def _goes_with(other: bytes | PixelArray, first: bytes | PixelArray) -> bool:
    if isinstance(first, bytes) or isinstance(other, bytes):
        return isinstance(first, bytes) and isinstance(other, bytes)
    return first.dtype == other.dtype and first.shape == other.shape


def _count_bytes(item: bytes | PixelArray) -> int:
    return len(item) if isinstance(item, bytes) else item.nbytes


def _payload(items: Sequence[bytes | PixelArray]) -> TensorPayload:
    arrays = [item for item in items if not isinstance(item, bytes)]
    if arrays:
        block = np.stack(arrays)
        return TensorPayload("UINT8" if block.dtype == np.uint8 else "FP32", block.shape, block.tobytes())
    files = [item for item in items if isinstance(item, bytes)]
    content = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    return TensorPayload("BYTES", (len(files),), content)


def _convert(picture: Any, size: tuple[int, ...]) -> bytes | PixelArray:
    """A file's bytes, or an array that the server takes as it is."""
    match picture:
        case bytes():
            return picture
        case str() | PathLike():
            return _read_file(Path(picture))
        case np.ndarray():
            return _convert_array(picture, size)
        case _ if callable(getattr(picture, "save", None)) and hasattr(picture, "getbands"):  # without importing Pillow
            return _encode_png(picture)
    raise RequestError(f"an image is a {type(picture).__name__}; {EXPECTED}")


def _convert_array(array: PixelArray, size: tuple[int, ...]) -> bytes | PixelArray:
    if array.dtype.kind == "f" and array.ndim == 3:
        return array.astype(np.float32)
    pixels = array[..., np.newaxis] if array.ndim == 2 else array
    if array.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise RequestError(f"an image is {array.dtype} {list(array.shape)}; {EXPECTED}")
    if pixels.shape == size:
        return pixels
    from PIL import Image

    return _encode_png(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _encode_png(picture: "PillowImage") -> bytes:
    """Without loss; a form of pixels that PNG does not have, such as CMYK, as RGB."""
    content = BytesIO()
    plain = picture if picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else picture.convert("RGB")
    plain.save(content, "png")
    return content.getvalue()


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: no image can be read there ({error.strerror}); expected an image file") from error
