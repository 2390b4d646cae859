"""What a transform makes of plain colours: order of the channels and normalization, whatever it does to sizes.

And the solution by least squares once the pixels are known.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolchain.errors import ModelError
from toolchain.records.tensors import Preprocessing
from toolchain.transform.user_transform import Floats, UserTransform

PROBE = (256, 256)
SAME = 0.02  # of the largest response
BYTE_STD = 0.02  # a smaller share of 255 is written in bytes: the model takes them undivided
EXACT = 0.0005  # levels by which a rounded mean and std may move a value
DIGITS = range(1, 9)
Colour = tuple[int, int, int]


class Normalization(NamedTuple):
    """Value = slope * byte + intercept, of each channel that the model gets; `order` is that of these channels."""

    slope: tuple[float, ...]
    intercept: tuple[float, ...]
    bgr: bool = False

    def levels(self, values: Floats) -> NDArray[np.float64]:
        """[channels, height, width] back to bytes, not rounded: [height, width, channels] in the order of the image."""
        slope, intercept = (np.reshape(each, (-1, 1, 1)) for each in (self.slope, self.intercept))
        levels: NDArray[np.float64] = ((values - intercept) / slope).transpose(1, 2, 0)
        return levels[..., ::-1] if self.bgr else levels


def probe_normalization(transform: UserTransform) -> Normalization:
    """From black and the plain colours, in the centre of the image. ModelError where channels are mixed, or plain
    colours have no values of their own."""
    black = _centre(transform, (0, 0, 0))
    if len(black) == 1:
        white = _centre(transform, (255, 255, 255))
        return Normalization(*_slopes(transform, black, white - black))
    response = np.stack([_centre(transform, colour) - black for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))], 1)
    largest = np.abs(response).argmax(1).tolist()
    away = response.copy()
    away[np.arange(3), largest] = 0
    mixed = np.abs(away).max() > SAME * np.abs(response).max() or largest not in ([0, 1, 2], [2, 1, 0])
    if response.any() and mixed:
        raise ModelError(
            f"{transform.name} mixes the colours: of red, green and blue it makes {response.round(3).tolist()}; "
            "expected RGB or BGR; where the images are gray, add channels = 1 to [input]"
        )
    return Normalization(*_slopes(transform, black, response[np.arange(3), largest]), largest == [2, 1, 0])


def _slopes(transform: UserTransform, black: Floats, response: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not (response > 0).all():
        what = "the same value for black and white" if not response.any() else "smaller values for brighter pixels"
        raise ModelError(
            f"{transform.name} gives {what}; [input] can only say (byte / scale - mean) / std, with one mean and std "
            "for all images; do the rest in the model"
        )
    return tuple((response / 255).tolist()), tuple(black.tolist())


def _centre(transform: UserTransform, colour: Colour) -> Floats:
    values = transform.apply(Image.new("RGB", PROBE, colour))
    return values[:, values.shape[1] // 2, values.shape[2] // 2]


def solve_normalization(values: list[Floats], pixels: list[NDArray[np.uint8]], bgr: bool) -> Normalization:
    """By least squares over all images, each channel for itself. values: [channels, height, width] by the transform;
    pixels: [height, width, channels] by ours."""
    slopes, intercepts = [], []
    for channel in range(len(values[0])):
        at = len(values[0]) - 1 - channel if bgr else channel
        x = np.concatenate([image[..., at].ravel() for image in pixels]).astype(np.float64)
        y = np.concatenate([image[channel].ravel() for image in values]).astype(np.float64)
        spread = x - x.mean()
        slope = float(spread @ y / (spread @ spread)) if spread.any() else 0.0
        slopes.append(slope)
        intercepts.append(float(y.mean() - slope * x.mean()))
    return Normalization(tuple(slopes), tuple(intercepts), bgr)


def as_keys(normalization: Normalization) -> dict[str, object]:
    """scale, mean, std and order as [input] says them, in as few digits as say the same."""
    std = 1 / np.array(normalization.slope)
    mean = -np.array(normalization.intercept) * std
    shares = np.concatenate([mean, std]) / 255  # what a recipe takes as such lies between 0 and 1
    scale = 1 if (std < 255 * BYTE_STD).any() or shares.min() < -EXACT or shares.max() > 1 + EXACT else 255
    rounded = [_round(*each, scale) for each in zip((mean / scale).tolist(), (std / scale).tolist(), strict=True)]
    means, stds = (_share_value(each) for each in zip(*rounded, strict=True))
    return {"scale": scale, "mean": means, "std": stds, "order": "bgr" if normalization.bgr else "rgb"}


def _round(mean: float, std: float, scale: int) -> tuple[float, float]:
    """The shortest decimals that move no byte by more than EXACT."""
    for digits in DIGITS:
        short_mean, short_std = round(mean, digits) + 0.0, round(std, digits)  # no -0.0
        if short_std > 0:
            ends = ((end - short_mean) * std / short_std - (end - mean) for end in (0.0, 255 / scale))
            if max(map(abs, ends)) * scale < EXACT:
                return short_mean, short_std
    return mean, std


def _share_value(values: tuple[float, ...]) -> tuple[float, ...]:
    return values[:1] if len(set(values)) == 1 else values


def normalize(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> Floats:
    """What the graph makes of uint8 [height, width, channels]: [channels, height, width]."""
    ordered = pixels[..., ::-1] if preprocessing.order == "bgr" else pixels
    mean, std = (np.asarray(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((ordered / np.float32(preprocessing.scale) - mean) / std).transpose(2, 0, 1))


def difference_in_levels(values: Floats, pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> Floats:
    """Between what a transform gave and what ours gives, of each value, in bytes."""
    std = np.reshape(np.asarray(preprocessing.std, np.float32), (-1, 1, 1))
    return np.asarray(np.abs(values - normalize(pixels, preprocessing)) * std * preprocessing.scale, np.float32)
