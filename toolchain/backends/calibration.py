"""What a backend needs to quantize: pictures as the graph takes them, and how."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """images: uint8 [N, height, width, channels]; the rest mirrors compress.step.Quantization."""

    images: NDArray[np.uint8]
    preset: str = "mixed"
    bias_correction: str = "fast"
    smooth: bool = False
