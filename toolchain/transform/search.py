"""Finds the Preprocessing that does what a transform does: measures it on drawn images, tries every rule that fits on
drawn and on real ones, solves mean and deviation, and says what is left.

Knows nothing of models: what the rest costs in accuracy is build/transform_check.py's.
"""

from collections.abc import Sequence
from itertools import product

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.runtime.preprocessing import fit_image
from toolchain.errors import ModelError
from toolchain.progress import track
from toolchain.records.tensors import Preprocessing
from toolchain.transform.candidates import Keys, geometries, resamplings
from toolchain.transform.colours import (
    Normalization,
    as_keys,
    difference_in_levels,
    probe_normalization,
    solve_normalization,
)
from toolchain.transform.probes import SHAPES, Measurement, measure
from toolchain.transform.user_transform import Floats, UserTransform

DRAWN_SIDE, DRAWN_SHAPE = 301, 1.52  # pixels of the shorter side, and the longer side by it
DRAWN_IMAGES = 4  # of each direction
FIRST_IMAGES, FINALISTS = 2, 10  # of each kind at first, and of the rules that are tried on all
TRIED_REAL = 12
EQUAL = 0.01  # levels: rounding in single precision
DECIMALS = 5  # of a mean difference in levels


class TransformMatch(msgspec.Struct, frozen=True):
    """preprocessing: the nearest to the transform. largest, mean: of the differences in levels (of 255) on `images`
    real images."""

    transform: str
    preprocessing: Preprocessing
    images: int
    largest: float
    mean: float

    @property
    def difference(self) -> str:
        """In words."""
        if self.largest < EQUAL:
            return f"to the bit on {self.images} images"
        return f"to within {self.largest:.3g} of 255 levels on {self.images} images, {self.mean:.2g} on average"


def find_preprocessing(transform: UserTransform, images: Sequence[Image.Image]) -> TransformMatch:
    """images: real ones, upright, of the sizes that there are. ModelError where the transform is random, gives sizes
    that differ, or mixes channels."""
    size = _output_size(transform, images)
    normalization = probe_normalization(transform)
    measured = _measurements(transform, normalization) if _resizes(transform, size) else []
    trial = [*map(draw_image, _drawn_shapes(measured)), *_pick_sizes(images, TRIED_REAL)]
    wanted = [transform.apply(image) for image in trial]
    rules = _rules(Preprocessing(*size, channels=len(wanted[0])), measured)
    rule = _best_rule(rules, trial, [normalization.levels(each) for each in wanted])
    ours = [fit_image(image, rule) for image in trial]
    solved = solve_normalization(wanted, ours, normalization.bgr)
    usable = [each for each in (normalization, solved) if min(each.slope) > 0]
    found = min(
        (msgspec.structs.replace(rule, **as_keys(each)) for each in usable),
        key=lambda each: round(_mean_difference(wanted, ours, each), 1),  # of plain colours where both are as near
    )
    return _compare(transform, images, found)


def _compare(transform: UserTransform, images: Sequence[Image.Image], found: Preprocessing) -> TransformMatch:
    largest, total = 0.0, 0.0
    for image in track(images, f"comparing {transform.name}", len(images)):
        difference = difference_in_levels(transform.apply(image), fit_image(image, found), found)
        largest, total = max(largest, float(difference.max())), total + float(difference.mean())
    return TransformMatch(transform.name, found, len(images), largest, total / len(images))


def _mean_difference(wanted: Sequence[Floats], ours: Sequence[NDArray[np.uint8]], found: Preprocessing) -> float:
    pairs = zip(wanted, ours, strict=True)
    return float(np.mean([difference_in_levels(values, pixels, found).mean() for values, pixels in pairs]))


def _output_size(transform: UserTransform, images: Sequence[Image.Image]) -> tuple[int, int]:
    first, again = transform.apply(images[0]), transform.apply(images[0])
    if first.shape != again.shape or not np.allclose(first, again):
        raise ModelError(
            f"{transform.name} gives another result each time; name the transform of validation, which is not random"
        )
    for image in images:
        if (shape := transform.apply(image).shape) != first.shape:
            raise ModelError(
                f"{transform.name} gives {list(shape)} for an image of {image.width}x{image.height} pixels, and "
                f"{list(first.shape)} for another; a model is exported for one size: add a resize and a crop"
            )
    return first.shape[1], first.shape[2]


def _resizes(transform: UserTransform, size: tuple[int, int]) -> bool:
    """Whether it takes images of any size."""
    try:
        return all(transform.apply(draw_image(shape)).shape[1:] == size for shape in SHAPES)
    except ModelError:
        return False


def _measurements(transform: UserTransform, normalization: Normalization) -> list[Measurement]:
    found = (measure(transform, normalization, shape) for shape in SHAPES)
    return [each for each in found if each is not None]


def _drawn_shapes(measured: Sequence[Measurement]) -> list[tuple[int, int]]:
    """Heights and widths whose longer sides become one pixel longer each time, so that ways of rounding differ; none
    for a transform that takes no other size than the data's."""
    if not measured:
        return []
    side = max(min(measured[0].down, measured[0].across), 1.0)
    longer = [round(DRAWN_SIDE * (DRAWN_SHAPE + (count + 0.6) / side)) for count in range(DRAWN_IMAGES)]
    return [shape for other in longer for shape in ((DRAWN_SIDE, other), (other, DRAWN_SIDE))]


def _rules(base: Preprocessing, measured: Sequence[Measurement]) -> list[Preprocessing]:
    """Every rule that may explain what was measured; `base` where none of ours can."""
    if not measured:
        return [base]
    keys = product(resamplings(), geometries((base.height, base.width), measured))
    return [rule for way, size in keys if (rule := _rule(base, way | size)) is not None] or [base]


def _rule(base: Preprocessing, keys: Keys) -> Preprocessing | None:
    try:
        return msgspec.convert({**msgspec.structs.asdict(base), **keys}, Preprocessing)
    except msgspec.ValidationError:
        return None


def _best_rule(
    rules: Sequence[Preprocessing], images: Sequence[Image.Image], levels: Sequence[NDArray[np.float64]]
) -> Preprocessing:
    """First on a few images, then the nearest on all; of those that are equally near, the one that comes first."""
    few = [at for at in range(len(images)) if at < FIRST_IMAGES or at >= len(images) - FIRST_IMAGES]
    finalists = _rank(rules, [images[at] for at in few], [levels[at] for at in few])[:FINALISTS]
    return _rank(finalists, images, levels)[0]


def _rank(
    rules: Sequence[Preprocessing], images: Sequence[Image.Image], levels: Sequence[NDArray[np.float64]]
) -> list[Preprocessing]:
    distances = [_distance(rule, images, levels) for rule in track(rules, "trying ways of resizing", len(rules))]
    return [rules[at] for at in np.argsort(distances, kind="stable")]


def _distance(rule: Preprocessing, images: Sequence[Image.Image], levels: Sequence[NDArray[np.float64]]) -> float:
    """The mean difference in levels, rounded so that equal ones are equal."""
    distances = [np.abs(fit_image(image, rule) - each).mean() for image, each in zip(images, levels, strict=True)]
    return round(float(np.mean(distances)), DECIMALS)


def _pick_sizes(images: Sequence[Image.Image], count: int) -> list[Image.Image]:
    """Images of as many sizes as there are."""
    by_size = {image.size: image for image in reversed(images)}
    rest = [image for image in images if by_size[image.size] is not image]
    return [*by_size.values(), *rest][:count]


def draw_image(shape: tuple[int, int]) -> Image.Image:
    """Edges, gradients and noise, the same each time."""
    height, width = shape
    random = np.random.default_rng(height * width)
    coarse = random.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    stripes = (np.add.outer(np.arange(height), np.arange(width)) // 5 % 2 * 40)[..., None]
    noise = random.integers(-12, 13, smooth.shape, np.int16)
    return Image.fromarray(np.clip(smooth + stripes + noise - 20, 0, 255).astype(np.uint8))
