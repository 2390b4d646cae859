"""Why a model is no better than chance: tries the usual mistakes, and names one only where it clearly fits.

Knows arrays, and asks for the model's answers to images that are preprocessed in another way; how those are computed
is the caller's. A class order is found on half of the images and must hold on the other half.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from toolchain.accuracy.chance import LEVEL, Chance, compare_with_chance, describe_chance
from toolchain.records.output import OutputKind, as_label_table
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
    """'' for a model that is better than chance; else that it is not, and what to look at, in one line. So is one
    that is better but not half way to perfect, where a mistake explains at least half of what it gets wrong: of twelve
    classes whose names are numbers, sorted as text, two keep their place."""
    decisions = subject.output.decide(subject.scores)
    found = compare_with_chance(decisions, subject.truth)
    if not found.is_at_chance and found.is_half_way:
        return ""
    explanations = [*_class_order(subject, decisions), *_other_input(subject)]
    most = [each for each in explanations if 1 - each.accuracy <= (1 - found.accuracy) / 2]
    best = max((each.accuracy for each in most), default=0.0)
    sentence = "; or ".join(each.sentence for each in most if each.accuracy >= best - LEVEL)  # red may pass for blue
    measure, images = subject.output.measure(subject.scores.shape[1]), len(subject.truth)
    if found.is_at_chance:
        what = describe_chance(found, measure, images)
        return f"{what}; {sentence or _places_to_look(subject)}"
    return f"{measure} {found.accuracy:.2%} of {images} test images; {sentence}" if sentence else ""


def _places_to_look(subject: ScoredModel) -> str:
    classes = ", ".join(subject.classes[:3])
    more = ", ..." if len(subject.classes) > 3 else ""
    channels = "order of channels, " if subject.preprocessing.channels == 3 else ""
    return (
        f"no other order of classes, {channels}scale, mean or std explains it; look at model.weights (are they the "
        f"trained ones?), the order of the classes (the data's: {classes}{more}) and [input] height, width, resize"
    )


def _class_order(subject: ScoredModel, decisions: Array) -> Iterator[Explanation]:
    """The order of the outputs under which most images are right, where it clearly is another one."""
    count, truth = len(subject.classes), subject.truth
    half = np.arange(len(truth)) % 2 == 0
    tried = _best_order(decisions[half], truth[half], count)
    held = compare_with_chance(_reorder(decisions[~half], tried), truth[~half])
    if not held.is_clear:
        return
    order = [subject.classes[at] for at in _best_order(decisions, truth, count)]
    right = f"{subject.output.measure(subject.scores.shape[1])} {held.accuracy:.1%} then"
    where = "one a line, into the file that labels under [model] names"
    if subject.output.is_binary(subject.scores.shape[1]):
        what = f"its one output is high for {order[1]}, and by sigmoid that is the second class, {order[0]}"
        yield Explanation(held.accuracy, f"{what} ({right}); write {order[0]} and then {order[1]}, {where}")
        return
    more = ", ..." if count > NAMED else ""
    shown = ", ".join(f"{at} is {name}" for at, name in enumerate(order[:NAMED]))
    what = f"its outputs are in another order than the data's classes{_name_order(order, subject)}"
    yield Explanation(held.accuracy, f"{what}: output {shown}{more} ({right}); write them in that order, {where}")


def _best_order(decisions: Array, truth: Array, count: int) -> Array:
    """The class that each output stands for, so that most images are right, or most labels (the assignment problem)."""
    from scipy.optimize import linear_sum_assignment

    agreement = np.zeros((count, count), np.int64)
    if decisions.ndim == 1:
        np.add.at(agreement, (decisions, truth), 1)
    else:
        chosen, true = decisions.astype(np.int64), as_label_table(truth, count).astype(np.int64)
        agreement = chosen.T @ true + (1 - chosen).T @ (1 - true)
    _, classes = linear_sum_assignment(agreement, maximize=True)
    found: Array = classes
    return found


def _reorder(decisions: Array, order: Array) -> Array:
    """The decisions if output i stood for the class order[i]."""
    changed: Array = order[decisions] if decisions.ndim == 1 else decisions[:, np.argsort(order)]
    return changed


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
        measure = subject.output.measure(subject.scores.shape[1])
        yield Explanation(
            best.accuracy, f"with {keys} under [input] it would be {measure} {best.accuracy:.1%}; write that"
        )


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
