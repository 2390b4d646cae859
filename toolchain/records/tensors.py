"""Shapes and types of a model's inputs and outputs, and the preprocessing from an image to an input."""

from collections.abc import Mapping, Sequence
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


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From an image to the model's input, with the same meaning in training, calibration, the graph and the server.

    An image is decoded, converted to `channels` (3: RGB, 1: grey), resized so that its shorter side is `resize` pixels
    (None: stretched to height x width if the size differs) and centre-cropped to uint8 [height, width, channels]. The
    rest is in the ONNX graph: channel order, (x / 255 - mean) / std, NHWC -> NCHW.
    """

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: Literal["rgb", "bgr"] = "rgb"
    resize: int | None = None
    filter: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        """ValueError for numbers that no graph can have; a reader of a file adds the place."""
        for name, size in (("height", self.height), ("width", self.width), ("resize", self.resize)):
            if size is not None and size < 1:
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one input image."""
        return self.height, self.width, self.channels
