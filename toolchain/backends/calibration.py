"""What a back end needs to quantize a model: images as the graph takes them, and the options."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Array


@dataclass(frozen=True)
class Calibration:
    """images: uint8 [N, height, width, channels], none where ranges are computed for each image at run time; the rest
    mirrors compress.step.Quantization. validation: images and labels [N] on which `max_drop` (points of top-1, or of
    the measure of `output`) is measured."""

    images: NDArray[np.uint8]
    preset: str = "mixed"
    bias_correction: str = "fast"
    smooth: bool = False
    per_channel: bool = True
    ignore: tuple[str, ...] = ()
    max_drop: float | None = None
    validation: tuple[Array, Array] | None = None
    output: OutputKind = SOFTMAX
