"""From an encoded image to the array that the model takes: the single implementation of `Preprocessing` outside the
graph.

Training, calibration, evaluation and the server all call this file (which is why toolchain/data may import it). By
default the geometry is that of torchvision's Resize and CenterCrop on Pillow images. Knows nothing of data sets, of
HTTP, nor of what the graph does (channel order, scale, mean and std). Embedded colour profiles are not applied and
transparency is dropped, as torchvision does.
"""

from collections.abc import Callable
from io import BytesIO
from struct import error as StructError
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401  # Pillow would load all of its plug-ins to find these two
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from deploy.runtime.decoding.encoded_image import MAX_BYTES, EncodedImage, check_size, incomplete_image
from deploy.runtime.decoding.formats import READERS, SIGNATURE_BYTES, image_format
from deploy.runtime.decoding.libtiff import silence_libtiff
from deploy.runtime.resampling.geometry import Placement, place_image
from deploy.runtime.resampling.opencv import resize_as_opencv
from deploy.runtime.resampling.torch_no_antialias import resize_as_torch
from toolchain.errors import RequestError
from toolchain.records.tensors import Preprocessing

ImageArray = NDArray[np.uint8]

# A JPEG of more pixels is decoded at 1/2, 1/4 or 1/8 of its size where that still leaves so many times the pixels that
# are needed on a side: within a rounding of the whole (docs/decisions/0017), at a third of the time.
MAX_EXACT_PIXELS = 4_000_000
REDUCING_GAP = 4
SCALES = (8, 4, 2)
PIECE_BYTES = 4096  # fed to the decoder between two looks at the time: a scan of millions of pixels may take twenty

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
}
RESAMPLERS = {"torch-no-antialias": resize_as_torch, "opencv": resize_as_opencv}
SUM_BYTES = 9  # for a byte of a row that is resized across: its sum, a product, and the byte itself
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# what Pillow raises for a broken file, its slips included
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, StructError, ZlibError),
    *(ArithmeticError, AssertionError, AttributeError, TypeError),
)
SIZE_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode_and_fit(content: bytes, preprocessing: Preprocessing) -> ImageArray:
    """An image file as uint8 [height, width, channels]; RequestError for anything else, and for an image that is too
    large."""
    return decode_and_fit_image(read_image(content), preprocessing)


def decode_and_fit_image(
    image: EncodedImage, preprocessing: Preprocessing, check: Callable[[], None] | None = None
) -> ImageArray:
    """The same for an image whose headers were read; check: called again and again meanwhile, ends it by raising."""
    return fit_image(_decode(image, choose_scale(image, preprocessing), check), preprocessing)


def decode_whole(content: bytes) -> Image.Image:
    """A JPEG or PNG in its own size, upright, in mode RGB or L; RequestError as decode_and_fit."""
    return _decode(read_image(content), 1, None)


def read_image(content: bytes) -> EncodedImage:
    """What an image file is; RequestError for anything else, and for one that is too large."""
    if len(content) > MAX_BYTES:
        raise RequestError(f"an image of {len(content)} bytes: expected at most {MAX_BYTES}; send a smaller one")
    kind = image_format(content[:SIGNATURE_BYTES])
    if kind is None:
        raise incomplete_image("unknown format", len(content))
    image = READERS[kind](content)
    check_size(image)
    return image


def choose_scale(image: EncodedImage, preprocessing: Preprocessing) -> int:
    """1, or the 8, 4 or 2 by which a JPEG's sides are divided as it is decoded."""
    if image.format != "JPEG" or image.pixels <= MAX_EXACT_PIXELS or not antialiases(preprocessing):
        return 1
    width, height = image.upright_size
    placement = place_image(height, width, preprocessing)
    reduction = min(placement.across.scale, placement.down.scale)
    return next((scale for scale in SCALES if reduction >= scale * REDUCING_GAP), 1)


def antialiases(preprocessing: Preprocessing) -> bool:
    """Whether every pixel of an image counts: only then is one of half the size as good."""
    return preprocessing.resampler == "pillow" and preprocessing.filter != "nearest"


def fit_array(image: ImageArray, preprocessing: Preprocessing) -> ImageArray:
    """The same for decoded pixels, uint8 [any height, any width, 1 or 3]."""
    if fits(image.shape, preprocessing):
        return image
    return fit_image(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image), preprocessing)


def fits(shape: tuple[int, ...], preprocessing: Preprocessing) -> bool:
    """Whether images of `shape` (height, width, channels) need no resizing or cropping."""
    return shape == preprocessing.shape and preprocessing.resize in (None, min(shape[:2]), shape[:2])


def fit_image(image: Image.Image, preprocessing: Preprocessing) -> ImageArray:
    """Convert the channels, then the size, of an upright image."""
    mode = "L" if preprocessing.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    height, width, channels = preprocessing.shape
    if fits((image.height, image.width, channels), preprocessing):
        return np.array(image).reshape(height, width, channels)
    placement = place_image(image.height, image.width, preprocessing)
    if preprocessing.resampler == "pillow":
        kept = placement.across.kept, placement.down.kept
        image = image.resize(kept, FILTERS[preprocessing.filter], _box(placement))
        fitted = np.array(image).reshape(kept[1], kept[0], channels)
    else:
        pixels = np.asarray(image).reshape(image.height, image.width, channels)
        resize = RESAMPLERS[preprocessing.resampler]
        fitted = resize(pixels, placement.down, placement.across, preprocessing.filter)
    return fitted if preprocessing.letterbox is None else _fill_round(fitted, placement, preprocessing)


def crop_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The region of a width x height image that is kept: left, top, right, bottom in its own pixels.

    Resizing only this box equals resizing the whole image and cropping (up to rounding), without creating the whole: an
    image of one by a million pixels costs no more than any other.
    """
    return _box(place_image(height, width, preprocessing))


def resampling_bytes(image: EncodedImage, preprocessing: Preprocessing) -> int:
    """Memory to resize a decoded image, beside it: Pillow's own is counted with the decoding."""
    if preprocessing.resampler == "pillow":
        return 0
    width, height = image.upright_size
    return preprocessing.channels * height * (width + SUM_BYTES * preprocessing.width)


def _box(placement: Placement) -> tuple[float, float, float, float]:
    down, across = placement.down, placement.across
    right, bottom = across.stop * across.scale, down.stop * down.scale
    start = across.start * across.scale, down.start * down.scale
    return *start, min(right, float(across.source)), min(bottom, float(down.source))


def _fill_round(fitted: ImageArray, placement: Placement, preprocessing: Preprocessing) -> ImageArray:
    """The letterbox: `fitted` in its place, and its colour round it."""
    whole = np.empty(preprocessing.shape, np.uint8)
    whole[:] = preprocessing.letterbox or 0
    top, left = placement.top, placement.left
    whole[top : top + placement.down.kept, left : left + placement.across.kept] = fitted
    return whole


class _TimedFile(BytesIO):
    """Calls `check` whenever the decoder reads on."""

    def __init__(self, content: bytes, check: Callable[[], None]) -> None:
        super().__init__(content)
        self._check = check

    def read(self, size: int | None = -1, /) -> bytes:
        self._check()
        return super().read(size)


def _decode(encoded: EncodedImage, scale: int, check: Callable[[], None] | None) -> Image.Image:
    """The image, upright, in mode RGB or L."""
    file = BytesIO(encoded.content) if check is None else _TimedFile(encoded.content, check)
    if encoded.format == "TIFF":
        silence_libtiff()
    try:
        image = Image.open(file, formats=(encoded.format,))
        if image.size != (encoded.width, encoded.height):
            raise incomplete_image("two sizes", len(encoded.content))
        if scale > 1:
            image.draft(image.mode, (encoded.width // scale, encoded.height // scale))
        if check is not None:
            image.decodermaxblock = PIECE_BYTES  # type: ignore[attr-defined]  # of every ImageFile
        image.load()
        plain = _to_rgb_or_gray(image)
        del image  # the largest images are copied twice
        return _upright(plain, encoded.orientation)
    except SIZE_ERRORS as error:
        raise RequestError(f"an image of {encoded.width}x{encoded.height} pixels: send a smaller one") from error
    except DECODE_ERRORS as error:
        raise incomplete_image(_reason(error), len(encoded.content)) from error


def _to_rgb_or_gray(image: Image.Image) -> Image.Image:
    """Every mode that these files have, as L or RGB."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip at 255, not scale
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turned as the camera's EXIF tag says."""
    turn = TRANSPOSES.get(orientation)
    return image if turn is None else image.transpose(turn)


def _reason(error: BaseException) -> str:
    """Pillow's message, without the address of the buffer in it."""
    return "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
