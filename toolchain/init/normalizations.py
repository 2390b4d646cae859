"""The normalizations and orders of channels that training scripts use, each with its usual name."""

from collections.abc import Iterator
from typing import Any

import msgspec

from toolchain.records.tensors import Preprocessing

NormalizationKeys = dict[str, Any]
IMAGENET: NormalizationKeys = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SHARES: NormalizationKeys = {"mean": (0.0,), "std": (1.0,)}
PLUS_MINUS_ONE: NormalizationKeys = {"mean": (0.5,), "std": (0.5,)}
BYTES: NormalizationKeys = {"mean": (0.0,), "std": (1.0,), "scale": 1}
CAFFE: NormalizationKeys = {"mean": (123.68, 116.779, 103.939), "std": (1.0,), "scale": 1}
GREY_IMAGENET: NormalizationKeys = {"mean": (0.449,), "std": (0.226,)}
MNIST: NormalizationKeys = {"mean": (0.1307,), "std": (0.3081,)}
CIFAR: NormalizationKeys = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.2435, 0.2616)}
# Scripts that read images by OpenCV and never turn the channels round give these numbers as they are published.
AS_WRITTEN = ("ImageNet", "CIFAR-10")


def normalizations(
    shape: Preprocessing, own: tuple[tuple[float, ...], tuple[float, ...]]
) -> Iterator[tuple[str, Preprocessing]]:
    """By name, the usual ones first. own: mean and std of the data itself."""
    of_data: NormalizationKeys = {"mean": own[0], "std": own[1]}
    colour = {
        "ImageNet": IMAGENET,
        "0 to 1": SHARES,
        "-1 to 1": PLUS_MINUS_ONE,
        "0 to 255": BYTES,
        "0 to 255 less ImageNet's mean": CAFFE,
        "CIFAR-10": CIFAR,
        "the data's own mean and std": of_data,
    }
    grey = {
        "0 to 1": SHARES,
        "-1 to 1": PLUS_MINUS_ONE,
        "0 to 255": BYTES,
        "ImageNet, grey": GREY_IMAGENET,
        "MNIST": MNIST,
        "the data's own mean and std": of_data,
    }
    for order in ("rgb", "bgr") if shape.channels == 3 else ("rgb",):
        for name, keys in (colour if shape.channels == 3 else grey).items():
            turned = _reverse(keys) if order == "bgr" and name not in AS_WRITTEN else keys
            suffix = f", {order.upper()}" if shape.channels == 3 else ""
            yield f"{name}{suffix}", msgspec.structs.replace(shape, order=order, **turned)


def _reverse(keys: NormalizationKeys) -> NormalizationKeys:
    return {key: value[::-1] if isinstance(value, tuple) else value for key, value in keys.items()}
