"""Normalized float32 or float16 [N, channels, height, width] from clients that preprocess themselves -> the uint8
pixels that the graph takes.

The graph holds the normalization, so normalized input is converted back: 8-bit pixels come out exactly, other values to
within half a level. Preprocessing keeps one meaning, the bundle's. Why this exists: docs/decisions/0014.
"""

import numpy as np

from toolchain.errors import RequestError
from toolchain.records.tensors import Array, Preprocessing, TensorSpec

FLOATS = ("FP32", "FP16")  # 16 bits name every level of 8


def is_normalized_image(spec: TensorSpec, datatype: str, shape: list[int], preprocessing: Preprocessing) -> bool:
    """Whether such a tensor holds normalized images for the input `spec`."""
    height, width, channels = preprocessing.shape
    return (
        datatype in FLOATS
        and spec.dtype == "uint8"
        and spec.shape == (None, height, width, channels)
        and shape[1:] == [channels, height, width]
        and len(shape) == 4
    )


def denormalize(name: str, array: Array, preprocessing: Preprocessing) -> Array:
    """uint8 [N, height, width, channels]; RequestError for values that no pixel has after this preprocessing."""
    mean, std = (
        np.asarray(values, np.float32).reshape(1, 1, 1, -1) for values in (preprocessing.mean, preprocessing.std)
    )
    levels = (array.transpose(0, 2, 3, 1) * std + mean) * np.float32(preprocessing.scale)
    low, high = float(levels.min()), float(levels.max())
    if not (low > -1 and high < 256):  # NaN is neither
        by = f"mean {list(preprocessing.mean)} and std {list(preprocessing.std)}"
        formula = f"(pixel / {preprocessing.scale} - mean) / std with {by}"
        raise RequestError(
            f"input '{name}': expected floats as {formula}; got values of pixels {low:.4g} to {high:.4g}"
        )
    found: Array = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(found[..., ::-1] if preprocessing.order == "bgr" else found)
