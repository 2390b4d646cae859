"""From what a source calls train, val and test to the splits of a data set.

Knows nothing of pixels or files: a part takes images by their places in it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from toolchain.data.dataset import Labels, Split
from toolchain.data.splits import shuffle_indices, split_indices

# What people call the three parts of a data set, as folders, columns and keys.
PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
TEST_SHARE = 5  # without a part to test on, one image in so many becomes the test split
TEST_ALONE_SHARE = 2  # where there is nothing but a part to test on, one image in so many stays there
FEW = 10
MAX_NAMED = 5


class Part(Protocol):
    """Labelled images of one part of a source. labels: as in Split."""

    @property
    def labels(self) -> Labels: ...
    def take(self, places: Sequence[int]) -> Split: ...


def part_of(name: str) -> str | None:
    """train, val or test for a name of either case that people give it; None for any other."""
    return next((part for part, names in PART_NAMES.items() if name.casefold() in names), None)


def make_splits(parts: Mapping[str, Part]) -> dict[str, Split]:
    """The four splits. Training images alone give a fifth of them to test; test or val alone, on which nobody trains,
    keep half of them for it, and the other half is for calibration and the certificate. val is the test split where
    there is none, else the validation split."""
    share = TEST_SHARE
    if len(parts) == 1:
        share = TEST_SHARE if "train" in parts else TEST_ALONE_SHARE
        parts = {"train": next(iter(parts.values()))}
    test = next((parts[name] for name in ("test", "val") if name in parts), None)
    validate = parts.get("val") if "test" in parts else None
    train, order = parts["train"], shuffle_indices(len(parts["train"].labels), 0)
    held = [] if test is not None else order[: len(order) // share]
    places = split_indices(order[len(held) :])
    if validate is not None:
        places["train"] = sorted(places["train"] + places.pop("validate"))
    splits = {name: train.take(chosen) for name, chosen in places.items()}
    splits["test"] = _take_all(test) if test is not None else train.take(sorted(held))
    return splits if validate is None else splits | {"validate": _take_all(validate)}


def describe_division(parts: Collection[str]) -> str:
    """How make_splits() divides a source with these parts, and why."""
    held = "a tenth of the others, at most 1,000 images, is held out for validation, and as much for the certificate"
    if set(parts) == {"train"}:
        return f"there is no test part: a fifth of the images, drawn by a fixed rule, is the test split; {held}"
    if len(parts) == 1:
        return "there is nothing to train on: half of the images is the test split, the others calibrate and certify"
    if "test" not in parts:
        return f"there is no test part: val is the test split; {held}"
    if "val" in parts:
        return (
            "test and val are the source's own; a tenth of the others, at most 1,000, is held out for the certificate"
        )
    return f"the test split is the source's own; {held}"


def describe_small_classes(classes: Sequence[str], splits: Mapping[str, Split]) -> str | None:
    """One line that names the classes with few training images or no test images; None where there are none."""
    counts = [_count(splits[name].labels, len(classes)) for name in ("train", "validate", "certify")]
    train = np.sum(counts, axis=0)
    test = _count(splits["test"].labels, len(classes))
    small = [place for place in range(len(classes)) if train[place] < FEW or not test[place]]
    if not small:
        return None
    named = ", ".join(f"'{classes[place]}' {train[place]} and {test[place]}" for place in small[:MAX_NAMED])
    more = f", and {len(small) - MAX_NAMED} more" if len(small) > MAX_NAMED else ""
    return (
        f"{len(small)} of {len(classes)} classes have fewer than {FEW} training images or no test image: {named}{more} "
        "(training and test images); their accuracy says little"
    )


def _take_all(part: Part) -> Split:
    return part.take(range(len(part.labels)))


def _count(labels: Labels, classes: int) -> Labels:
    """The number of images of each class."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes).astype(np.int64)
