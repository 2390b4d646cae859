"""What every optimizer is handed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn


class Subject(NamedTuple):
    """module: takes normalized images; mean, std: how they are normalized. onnx: the same net, of uint8 images.
    calibration: uint8 [N, H, W, C] of the training part. folder: to write in."""

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    onnx: Path
    calibration: NDArray[np.uint8]
    folder: Path
