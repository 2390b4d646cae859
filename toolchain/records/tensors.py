"""Shapes and types of a model's inputs and outputs, and the preprocessing from an image to an input."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isfinite
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.errors import RequestError

Array = NDArray[Any]
Feeds = Mapping[str, Array]
DType = Literal["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named tensor; None in `shape` is a dynamic axis (the batch)."""

    name: str
    dtype: DType
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        axes = ", ".join("N" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype} [{axes}]"

    def fits(self, array: Array) -> bool:
        return (
            array.dtype == np.dtype(self.dtype)
            and array.ndim == len(self.shape)
            and all(want is None or want == have for want, have in zip(self.shape, array.shape, strict=True))
        )


def check_feeds(specs: Sequence[TensorSpec], feeds: Feeds) -> None:
    """RequestError that names the tensor, what was expected and what was received."""
    for spec in specs:
        if spec.name not in feeds:
            got = ", ".join(feeds) or "no inputs"
            raise RequestError(f"input '{spec.name}' is missing: expected {spec}; got {got}")
        array = feeds[spec.name]
        if not spec.fits(array):
            raise RequestError(f"input '{spec.name}': expected {spec}, got {array.dtype} {list(array.shape)}")
    for name in feeds:
        if all(name != spec.name for spec in specs):
            raise RequestError(f"no input '{name}': the model has {', '.join(spec.name for spec in specs)}")


Filter = Literal["bilinear", "bicubic", "lanczos", "nearest", "area"]
Resampler = Literal["pillow", "torch-no-antialias", "opencv"]
FILTERS: dict[Resampler, tuple[Filter, ...]] = {
    "pillow": ("bilinear", "bicubic", "lanczos", "nearest", "area"),
    "torch-no-antialias": ("bilinear", "bicubic", "nearest"),
    "opencv": ("bilinear", "bicubic", "lanczos", "nearest", "area"),
}


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From an image to the model's input, with the same meaning in training, calibration, the graph and the server.

    An image is decoded, converted to `channels` (3: RGB, 1: grey), resized so that its shorter side is `resize` pixels,
    or to `resize` = (height, width), without it to height x width, and cropped at the centre to uint8 [height, width,
    channels]. With a `letterbox`, it is resized to fit into that size whole, and the rest filled with that colour. The
    rest is in the ONNX graph: channel order, (x / scale - mean) / std, NHWC -> NCHW.

    resampler: the library whose way of resizing is followed, with its `filter`. size_rounding: of the side that follows
    from the other by the image's shape. offset: where the crop, or the image in a letterbox, starts when an odd number
    of pixels is left over, or "corner": at the top left. letterbox: of one value, or one per channel, before `order`.
    """

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: Literal["rgb", "bgr"] = "rgb"
    resize: int | tuple[int, int] | None = None
    filter: Filter = "bilinear"
    scale: Literal[255, 1] = 255
    resampler: Resampler = "pillow"
    letterbox: tuple[int, ...] | None = None
    size_rounding: Literal["floor", "round"] = "floor"
    offset: Literal["round", "floor", "corner"] = "round"

    def __post_init__(self) -> None:
        """ValueError for numbers that no graph can have; a reader of a file adds the place."""
        for name, size in (("height", self.height), ("width", self.width), *(("resize", side) for side in self._sides)):
            if size < 1:
                raise ValueError(f"{name} = {size}; expected at least 1 pixel")
        if self.channels not in (1, 3):
            raise ValueError(f"channels = {self.channels}; expected 3 (RGB) or 1 (grey)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                expected = "1" if self.channels == 1 else "1, or 3 (one per channel)"
                raise ValueError(f"{name} has {len(values)} values; expected {expected}")
            if not all(map(isfinite, values)):
                raise ValueError(f"{name} = {list(values)}; expected finite numbers")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std = {list(self.std)}; expected values above zero")
        self._check_geometry()

    def _check_geometry(self) -> None:
        if isinstance(self.resize, tuple) and (self.resize[0] < self.height or self.resize[1] < self.width):
            raise ValueError(
                f"resize = {list(self.resize)}; expected at least height x width, {self.height} x {self.width}"
            )
        if self.filter not in FILTERS[self.resampler]:
            raise ValueError(
                f'filter = "{self.filter}"; resampler = "{self.resampler}" has: {", ".join(FILTERS[self.resampler])}'
            )
        colour = self.letterbox
        if colour is not None and (
            len(colour) not in (1, self.channels) or not all(0 <= byte <= 255 for byte in colour)
        ):
            raise ValueError(f"letterbox = {list(colour)}; expected a colour: 1 or {self.channels} bytes")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one input image."""
        return self.height, self.width, self.channels

    @property
    def longest_side(self) -> int:
        """Pixels of the longest side that is asked for, of the input or before the crop."""
        return max(self.height, self.width, *self._sides)

    @property
    def _sides(self) -> tuple[int, ...]:
        return self.resize if isinstance(self.resize, tuple) else () if self.resize is None else (self.resize,)


# Keys that came with the manifest's format 6: where they say what was always done, digests stay what they were.
ADDED_KEYS = ("scale", "resampler", "letterbox", "size_rounding", "offset")


def preprocessing_digest(preprocessing: Preprocessing) -> str:
    """sha256 of what a preprocessing says, as 64 hex digits; the same in every release that can say it."""
    fields = {field.name: field.default for field in msgspec.structs.fields(preprocessing)}
    values = {
        name: getattr(preprocessing, name)
        for name in fields
        if name not in ADDED_KEYS or getattr(preprocessing, name) != fields[name]
    }
    return sha256(msgspec.json.format(msgspec.json.encode(values), indent=1) + b"\n").hexdigest()
