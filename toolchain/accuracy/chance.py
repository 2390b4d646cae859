"""Is a model better than chance? Pure: answers and the truth go in.

Chance is what the same answers would get right if they were given to other images: sum over classes of P(answered)
P(true), as in Cohen's kappa (1960). So a model that always gives the commonest class is at chance however common that
is, and a good one on lopsided data is not.
"""

from typing import NamedTuple

import numpy as np

from toolchain.records.output import match_decisions
from toolchain.records.tensors import Array

LEVEL = 0.01  # how often a model at chance may pass, and a good one be refused
ROUNDING = 1e-9  # of a mean of shares
SHUFFLES = 200  # of answers with labels that do not exclude each other, whose F1 follows no binomial law


class Chance(NamedTuple):
    """accuracy, chance: shares 0..1; tail: how probable it is to get at least this accuracy by chance; is_possible:
    whether there were enough images to rule out that the model is half way from chance to perfect, and it was not."""

    accuracy: float
    chance: float
    tail: float
    is_possible: bool

    @property
    def is_at_chance(self) -> bool:
        """Not better than chance, and surely not good: a handful of images alone is no reason to refuse a model."""
        return self.tail > LEVEL and not self.is_possible

    @property
    def is_half_way(self) -> bool:
        """At least half way from chance to perfect."""
        return self.accuracy >= (1 + self.chance) / 2

    @property
    def is_clear(self) -> bool:
        """Surely better than chance even as the best of a dozen that were tried, and half way to perfect."""
        return self.tail <= LEVEL / 12 and self.is_half_way


def compare_with_chance(decisions: Array, truth: Array) -> Chance:
    """decisions: int64 [N], or bool [N, labels]; truth: as match_decisions takes it."""
    if decisions.ndim == 2:
        return _by_shuffling(decisions, truth)
    from scipy.special import bdtrc, betaincinv

    images, right = len(truth), int((decisions == truth).sum())
    chance = _expected_agreement(decisions, truth)
    tail = float(bdtrc(right - 1, images, chance)) if right else 1.0
    upper = float(betaincinv(right + 1, images - right, 1 - LEVEL)) if right < images else 1.0
    return Chance(right / images, chance, tail, upper >= (1 + chance) / 2 or len(np.unique(truth)) < 2)


def describe_chance(found: Chance, measure: str, images: int) -> str:
    return (
        f"no better than chance: {measure} {found.accuracy:.2%} of {images} test images, {found.chance:.2%} by chance"
    )


def _expected_agreement(decisions: Array, truth: Array) -> float:
    width = int(max(decisions.max(), truth.max())) + 1
    answered, true = (np.bincount(each, minlength=width) / len(each) for each in (decisions, truth))
    return float(answered @ true)


def _by_shuffling(decisions: Array, truth: Array) -> Chance:
    from scipy.special import ndtr

    random, grades = np.random.default_rng(0), match_decisions(decisions, truth)
    shuffled = [
        float(match_decisions(decisions, truth[random.permutation(len(truth))]).mean()) for _ in range(SHUFFLES)
    ]
    accuracy, chance, spread = float(grades.mean()), float(np.mean(shuffled)), float(np.std(shuffled))
    # the normal law: so few shuffles cannot tell 1 % from a tenth of that; without a spread the answers are all alike
    tail = float(ndtr((chance - accuracy) / spread)) if spread > ROUNDING else 1.0
    upper = accuracy + 2.33 * float(grades.std()) / len(grades) ** 0.5
    return Chance(accuracy, chance, tail, upper >= (1 + chance) / 2)
