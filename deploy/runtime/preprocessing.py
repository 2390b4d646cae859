"""From an encoded image to the array that the model takes: the single implementation of `Preprocessing` outside the
graph.

Training, calibration, evaluation and the server all call this file (which is why toolchain/data may import it). The
geometry is that of torchvision's Resize and CenterCrop on Pillow images. Knows nothing of data sets, of HTTP, nor of
what the graph does (channel order, scale, mean and std). Embedded colour profiles are not applied and transparency is
dropped, as torchvision does.
"""

from io import BytesIO
from struct import error as StructError
from typing import cast
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from toolchain.errors import RequestError
from toolchain.records.tensors import Preprocessing

ImageArray = NDArray[np.uint8]

# An image is refused by its header, before its pixels are decoded: a PNG of 200 kB can hold gigabytes.
MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
# A JPEG of a few kB can make the decoder scan its 64 million pixels thousands of times, milliseconds each.
# 0xFF in the data itself is always followed by 0; real progressive files have about ten scans.
MAX_SCANS, START_OF_SCAN = 200, b"\xff\xda"
FORMATS = ("JPEG", "PNG")  # also keeps Pillow's rarer, less tested decoders away from untrusted bytes

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DECODE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, StructError, ZlibError)
SIZE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_and_fit(content: bytes, preprocessing: Preprocessing) -> ImageArray:
    """A JPEG or PNG as uint8 [height, width, channels]; RequestError for anything else, and for an image that is too
    large."""
    return fit_image(decode_image(content), preprocessing)


def fit_array(image: ImageArray, preprocessing: Preprocessing) -> ImageArray:
    """The same for decoded pixels, uint8 [any height, any width, 1 or 3]."""
    if fits(image.shape, preprocessing):
        return image
    return fit_image(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image), preprocessing)


def fits(shape: tuple[int, ...], preprocessing: Preprocessing) -> bool:
    """Whether images of `shape` (height, width, channels) need no resizing or cropping."""
    return shape == preprocessing.shape and preprocessing.resize in (None, min(shape[:2]))


def decode_image(content: bytes) -> Image.Image:
    """The image, upright, in mode RGB or L."""
    if len(content) > MAX_BYTES:
        raise RequestError(f"an image of {len(content)} bytes: expected at most {MAX_BYTES}; send a smaller one")
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise RequestError(
                f"an image of {width}x{height} pixels: expected at most {MAX_PIXELS}; send a smaller one"
            )
        if image.format == "JPEG" and (scans := content.count(START_OF_SCAN)) > MAX_SCANS:
            raise RequestError(f"a JPEG of {scans} scans: expected at most {MAX_SCANS}; save it again as baseline JPEG")
        image.load()
        return _upright(_to_rgb_or_gray(image), image.getexif().get(ORIENTATION, 1))
    except SIZE_ERRORS as error:
        raise RequestError(f"an image of too many pixels: expected at most {MAX_PIXELS}; send a smaller one") from error
    except DECODE_ERRORS as error:
        raise RequestError(f"not a complete JPEG or PNG image ({_reason(error)}); got {len(content)} bytes") from error


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> ImageArray:
    """Convert the channels, then the size, of an upright image."""
    image = image.convert("L" if preprocessing.channels == 1 else "RGB")
    height, width, channels = preprocessing.shape
    if not fits((image.height, image.width, channels), preprocessing):
        box = crop_box(image.width, image.height, preprocessing)
        image = image.resize((width, height), FILTERS[preprocessing.filter], box)
    return np.array(image).reshape(height, width, channels)


def crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The region of a width x height image that is kept: left, top, right, bottom in its own pixels.

    Resizing only this box equals resizing the whole image and cropping (up to rounding), without creating the whole: an
    image of one by a million pixels costs no more than any other. Where the crop does not fit into the resized image (a
    shape wider than `resize` allows), the image is enlarged until it does.
    """
    if preprocessing.resize is None:
        return 0.0, 0.0, float(width), float(height)
    shorter = min(width, height)
    across = preprocessing.resize * width // shorter
    down = preprocessing.resize * height // shorter
    grow = max(1.0, preprocessing.width / across, preprocessing.height / down)
    across, down = max(round(across * grow), preprocessing.width), max(round(down * grow), preprocessing.height)
    left, top = round((across - preprocessing.width) / 2), round((down - preprocessing.height) / 2)
    x, y = width / across, height / down
    right, bottom = (left + preprocessing.width) * x, (top + preprocessing.height) * y
    return left * x, top * y, min(right, float(width)), min(bottom, float(height))


def _to_rgb_or_gray(image: Image.Image) -> Image.Image:
    """Every mode that JPEG and PNG have, as L or RGB."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip at 255, not scale
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "P":  # by way of RGBA: a palette with transparency may be converted no other way
        return image.convert("RGBA").convert("RGB")
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    """Turned as the camera's EXIF tag says."""
    turn = TRANSPOSES.get(cast("int", orientation))
    return image if turn is None else image.transpose(turn)


def _reason(error: BaseException) -> str:
    """Pillow's message, without the address of the buffer in it."""
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
