"""Why a model is no better than chance: tries the usual mistakes, and names one only where it clearly fits.

Knows arrays, and asks for the model's answers to images that are preprocessed in another way; how those are computed
is the caller's. A class order is found on half of the images and must hold on the other half.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from toolchain.accuracy.chance import Chance, compare_with_chance, describe_chance
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array, Preprocessing

TRIED_IMAGES = 128  # of each other way to preprocess
NAMED = 8  # classes of an order that a line names
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ScoresOf = Callable[[Preprocessing, Array], Array]  # (other preprocessing, positions of images) -> scores


class ScoredModel(NamedTuple):
    """A model's scores [N, outputs] for a test split, and what is needed to find out what is wrong with them.
    scores_of: its scores for some of the images, preprocessed in another way."""

    scores: Array
    truth: Array
    classes: Sequence[str]
    output: OutputKind
    preprocessing: Preprocessing
    scores_of: ScoresOf


class Explanation(NamedTuple):
    accuracy: float
    sentence: str


def explain_chance(subject: ScoredModel) -> str:
    """'' for a model that is better than chance; else that it is not, and what to look at, in one line."""
    decisions = subject.output.decide(subject.scores)
    found = compare_with_chance(decisions, subject.truth)
    if not found.is_at_chance:
        return ""
    explanations = [*_class_order(subject, decisions), *_other_input(subject)]
    best = max(explanations, key=lambda each: each.accuracy, default=None)
    what = describe_chance(found, subject.output.measure(subject.scores.shape[1]), len(subject.truth))
    return f"{what}; {best.sentence if best else _places_to_look(subject)}"


def _places_to_look(subject: ScoredModel) -> str:
    classes = ", ".join(subject.classes[:3])
    return (
        "no other order of classes, order of channels, scale, mean or std explains it; look at model.weights (are they "
        f"the trained ones?), the order of the classes (the data's: {classes}, ...) and [input] height, width, resize"
    )


def _class_order(subject: ScoredModel, decisions: Array) -> Iterator[Explanation]:
    """The order of the outputs under which most images are right, where it clearly is another one."""
    if decisions.ndim == 2 or subject.truth.ndim == 2:
        return
    count, truth = len(subject.classes), subject.truth
    half = np.arange(len(truth)) % 2 == 0
    tried = _best_order(decisions[half], truth[half], count)
    held = compare_with_chance(tried[decisions[~half]], truth[~half])
    if not held.is_clear:
        return
    order = [subject.classes[at] for at in _best_order(decisions, truth, count)]
    more = ", ..." if count > NAMED else ""
    shown = ", ".join(f"{at} is {name}" for at, name in enumerate(order[:NAMED]))
    yield Explanation(
        held.accuracy,
        f"its outputs are in another order than the data's classes{_name_order(order, subject)}: output {shown}{more} "
        f"({held.accuracy:.1%} right then); write them in that order, one a line, into the file that labels under "
        "[model] names",
    )


def _best_order(decisions: Array, truth: Array, count: int) -> Array:
    """The class that each output stands for, so that most images are right (the assignment problem)."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (decisions, truth), 1)
    _, classes = linear_sum_assignment(confusion, maximize=True)
    found: Array = classes
    return found


def _name_order(order: Sequence[str], subject: ScoredModel) -> str:
    """What the order is known as; '' for any other."""
    known = {
        " (numbers sorted as numbers)": sorted(subject.classes, key=_natural_key),
        " (sorted without regard to case)": sorted(subject.classes, key=str.casefold),
        " (reversed)": list(reversed(subject.classes)),
    }
    return next((name for name, names in known.items() if names == list(order)), "")


def _natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _other_input(subject: ScoredModel) -> Iterator[Explanation]:
    """The other [input] under which most images are right, where it clearly is better."""
    count = min(TRIED_IMAGES, len(subject.truth))
    positions = np.unique(np.linspace(0, len(subject.truth) - 1, count).astype(np.int64))
    truth, found = subject.truth[positions], dict[str, Chance]()
    for keys, other in other_inputs(subject.preprocessing):
        found[keys] = compare_with_chance(subject.output.decide(subject.scores_of(other, positions)), truth)
    if not found:
        return
    keys, best = max(found.items(), key=lambda each: each[1].accuracy)
    if best.is_clear:
        yield Explanation(best.accuracy, f"with {keys} under [input], {best.accuracy:.1%} would be right; write that")


def other_inputs(own: Preprocessing) -> Iterator[tuple[str, Preprocessing]]:
    """What training scripts do, other than `own` does: the keys to write, and the preprocessing."""
    scales: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
        "": (own.mean, own.std),
        "mean = [0], std = [1]": ((0.0,), (1.0,)),
        "mean = [0.5], std = [0.5]": ((0.5,), (0.5,)),
        "mean = [0], std = [0.00392157] (bytes as they are)": ((0.0,), (1 / 255,)),
    }
    if own.channels == 3:
        scales["ImageNet's mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]"] = IMAGENET
    for order in ("rgb", "bgr")[: 2 if own.channels == 3 else 1]:
        for keys, (mean, std) in scales.items():
            other = msgspec.structs.replace(own, order=order, mean=mean, std=std)
            if other != own:
                named = f'order = "{order}"' if order != own.order else ""
                yield " and ".join(filter(None, (named, keys))), other
