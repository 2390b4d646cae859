"""From a picture's bytes to the array that the network takes: the one meaning of `Preprocessing` before the graph.

Training, calibration, evaluation and the server all call this file (toolchain/data is allowed to import this one room
of the container for that reason). Geometry is that of torchvision's Resize and CenterCrop on Pillow images. Knows
nothing of data sets, of HTTP, nor of what is in the graph (channel order, scale, mean and std). Embedded colour
profiles are not applied and transparency is dropped, as torchvision does.
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

# A picture is refused by what its header says, before its pixels are decoded: a PNG of 200 kB can hold gigabytes.
MAX_BYTES = 32 << 20
MAX_PIXELS = 64_000_000
# A JPEG of some kB can ask for its 64 million pixels to be gone over thousands of times, each time for milliseconds.
# 0xFF in the data itself is always followed by 0; real progressive files have about ten scans.
MAX_SCANS, START_OF_SCAN = 200, b"\xff\xda"
FORMATS = ("JPEG", "PNG")  # also keeps Pillow's rarer, less tested decoders away from a stranger's bytes

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
    """A JPEG or PNG as uint8 [height, width, channels]; RequestError for what is no picture or too large."""
    return fit_image(decode_image(content), preprocessing)


def fit_array(picture: ImageArray, preprocessing: Preprocessing) -> ImageArray:
    """The same for decoded pixels, uint8 [any height, any width, 1 or 3]."""
    if fits(picture.shape, preprocessing):
        return picture
    return fit_image(Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture), preprocessing)


def fits(shape: tuple[int, ...], preprocessing: Preprocessing) -> bool:
    """Whether pictures of `shape` (height, width, channels) come out of fitting unchanged."""
    return shape == preprocessing.shape and preprocessing.resize in (None, min(shape[:2]))


def decode_image(content: bytes) -> Image.Image:
    """The picture, upright, in mode RGB or L."""
    if len(content) > MAX_BYTES:
        raise RequestError(f"a picture of {len(content)} bytes: expected at most {MAX_BYTES}; send a smaller one")
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise RequestError(
                f"a picture of {width}x{height} pixels: expected at most {MAX_PIXELS}; send a smaller one"
            )
        if image.format == "JPEG" and (scans := content.count(START_OF_SCAN)) > MAX_SCANS:
            raise RequestError(f"a JPEG of {scans} scans: expected at most {MAX_SCANS}; save it again as baseline JPEG")
        image.load()
        return _upright(_to_rgb_or_gray(image), image.getexif().get(ORIENTATION, 1))
    except SIZE_ERRORS as error:
        raise RequestError(
            f"a picture of too many pixels: expected at most {MAX_PIXELS}; send a smaller one"
        ) from error
    except DECODE_ERRORS as error:
        raise RequestError(f"not a whole JPEG or PNG picture ({_reason(error)}); got {len(content)} bytes") from error


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> ImageArray:
    """Channels, then size, of an upright picture."""
    image = image.convert("L" if preprocessing.channels == 1 else "RGB")
    height, width, channels = preprocessing.shape
    if not fits((image.height, image.width, channels), preprocessing):
        box = crop_box(image.width, image.height, preprocessing)
        image = image.resize((width, height), FILTERS[preprocessing.filter], box)
    return np.array(image).reshape(height, width, channels)


def crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The part of a width x height picture that is kept: left, top, right, bottom in its own pixels.

    Resizing just this box is resizing the whole and cropping (to a rounding), without ever making the whole: a picture
    of one by a million pixels costs no more than another. Where the crop would not fit into the resized picture (a
    shape wider than `resize` allows for), the picture is enlarged until it does.
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
    """Pillow's words, without the address of our buffer in them."""
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
