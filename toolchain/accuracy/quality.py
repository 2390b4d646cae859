"""What a candidate gets right and wrong of a labelled split: by class, by pair of classes, and how sure it was.

Calibration: predictions in 15 bins of equal width by their probability; ECE, the expected calibration error, is the
mean distance of a bin's accuracy from its mean probability, weighted by its predictions (Guo et al. 2017).

Knows arrays of scores; nothing of images, engines or files.
"""

import msgspec
import numpy as np

from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array

BINS = 15
MISTAKES = 24


class ClassFigures(msgspec.Struct, frozen=True):
    """images: that have the class; given: that it was given to; right: both."""

    images: int
    given: int
    right: int

    @property
    def recall(self) -> float | None:
        return self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        return self.right / self.given if self.given else None


class ConfidenceBin(msgspec.Struct, frozen=True):
    """count: predictions in it; confidence: their mean probability; accuracy: the share of them that is right."""

    count: int
    confidence: float
    accuracy: float


class Mistake(msgspec.Struct, frozen=True):
    """position: in the split; true: the image's classes; predicted: the class that it was given, or, where labels do
    not exclude each other, the label that is wrong; confidence: its probability, None where there are none."""

    position: int
    true: tuple[int, ...]
    predicted: int
    confidence: float | None


class Quality(msgspec.Struct, frozen=True):
    """confusion: (true, predicted, images), only where images > 0; empty where labels do not exclude each other.
    bins, ece: empty and None for outputs without probabilities. mistakes: the most confident first."""

    images: int
    measure: str
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, int, int], ...]
    bins: tuple[ConfidenceBin, ...]
    ece: float | None
    mistakes: tuple[Mistake, ...]


def assess_quality(scores: Array, truth: Array, output: OutputKind) -> Quality:
    """scores: [N, outputs]; truth: class indices [N], or 0 and 1 [N, labels]."""
    values, decisions = np.nan_to_num(output.class_values(scores)), output.decide(scores)
    measure = output.measure(scores.shape[1])
    if decisions.ndim == 2:
        return _assess_labels(values, decisions, truth, measure)
    count = values.shape[1]
    pairs, found = np.unique(np.stack((truth, decisions)), axis=1, return_counts=True)
    right = np.bincount(truth[decisions == truth], minlength=count)
    asked, given = np.bincount(truth, minlength=count), np.bincount(decisions, minlength=count)
    chosen = values[np.arange(len(values)), decisions]
    wrong = np.flatnonzero(decisions != truth)
    others = np.sort(values[wrong], axis=1)[:, -2:]
    surest = chosen[wrong] if output.has_probabilities else others[:, 1] - others[:, 0]
    mistakes = [
        Mistake(int(at), (int(truth[at]),), int(decisions[at]), float(chosen[at]) if output.has_probabilities else None)
        for at in wrong[np.argsort(-surest, kind="stable")][:MISTAKES]
    ]
    bins = _bin_confidences(chosen, decisions == truth) if output.has_probabilities else ()
    return Quality(
        images=len(truth),
        measure=measure,
        classes=tuple(map(_figures, asked, given, right)),
        confusion=tuple(
            (int(true), int(predicted), int(n)) for (true, predicted), n in zip(pairs.T, found, strict=True)
        ),
        bins=bins,
        ece=_calibration_error(bins),
        mistakes=tuple(mistakes),
    )


def _assess_labels(values: Array, decisions: Array, truth: Array, measure: str) -> Quality:
    """Each label of an image is a prediction of its own: that it has it, or that it does not."""
    true = truth.astype(bool) if truth.ndim == 2 else np.eye(decisions.shape[1], dtype=bool)[truth]
    confidence = np.where(decisions, values, 1 - values)
    wrong = np.argwhere(decisions != true)
    order = np.argsort(-confidence[decisions != true], kind="stable")[:MISTAKES]
    mistakes = [
        Mistake(int(image), tuple(map(int, np.flatnonzero(true[image]))), int(label), float(confidence[image, label]))
        for image, label in wrong[order]
    ]
    bins = _bin_confidences(confidence.ravel(), (decisions == true).ravel())
    both = (decisions & true).sum(axis=0)
    return Quality(
        images=len(true),
        measure=measure,
        classes=tuple(map(_figures, true.sum(axis=0), decisions.sum(axis=0), both)),
        confusion=(),
        bins=bins,
        ece=_calibration_error(bins),
        mistakes=tuple(mistakes),
    )


def _figures(images: int, given: int, right: int) -> ClassFigures:
    return ClassFigures(int(images), int(given), int(right))


def _bin_confidences(confidence: Array, right: Array) -> tuple[ConfidenceBin, ...]:
    """Bins without predictions are left out."""
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    inside = [places == place for place in range(BINS)]
    return tuple(
        ConfidenceBin(int(one.sum()), float(confidence[one].mean()), float(right[one].mean()))
        for one in inside
        if one.any()
    )


def _calibration_error(bins: tuple[ConfidenceBin, ...]) -> float | None:
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total if total else None
