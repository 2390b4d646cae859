"""What judging needs of statistics: pure functions of numbers, no knowledge of releases.

Nothing here assumes that latencies are normal: they are skewed, with a tail, and drift. Means and standard deviations
of them mislead, so medians and the bootstrap are used throughout.
"""

from collections.abc import Sequence
from itertools import product
from math import comb

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.certification.wilson import wilson
from toolchain.records.report import SAMPLES_FOR, percentile

__all__ = [
    "SAMPLES_FOR",
    "bootstrap_median",
    "bootstrap_trimmed",
    "holm",
    "mcnemar",
    "median",
    "noise_floor",
    "percentile",
    "sign_flip",
    "trimmed_mean",
    "wilson",
]

RESAMPLES = 4000
FLIPS = 20_000
EXACT = 14  # so many values have 2**14 ways to flip, and all of them are counted
TRIMMED = 0.2  # of the values, at either end
LEAST_EFFECTS = 8  # quartiles of fewer say nothing


def median(values: Sequence[float]) -> float:
    """The median; ValueError of nothing."""
    if not len(values):
        raise ValueError("no median of nothing")
    return float(np.median(np.asarray(values, np.float64)))


def bootstrap_median(
    values: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap's interval (low, high) of the median of `values` at `level`.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. `values` must be independent: rounds, not
    the requests inside one. The same values and seed give the same interval. ValueError for fewer than two values.
    """
    return _ends(np.median(_resampled(values, resamples, seed), axis=1), level)


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest fifth (Tukey 1962): nearly the mean's precision where values are
    normal and nearly the median's calm where some are far off. ValueError of nothing."""
    if not len(values):
        raise ValueError("no mean of nothing")
    return float(_trimmed(np.asarray(values, np.float64)))


def bootstrap_trimmed(values: Sequence[float], level: float, seed: int = 0) -> tuple[float, float]:
    """As bootstrap_median, of the trimmed mean."""
    return _ends(_trimmed(_resampled(values, RESAMPLES, seed)), level)


def _ends(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(values: Sequence[float], resamples: int, seed: int) -> NDArray[np.float64]:
    """`resamples` rows, each as many of `values` as there are, some more than once."""
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    sample = np.asarray(values, np.float64)
    return sample[np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))]


def _trimmed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    cut = int(TRIMMED * rows.shape[-1])
    return np.asarray(np.sort(rows, axis=-1)[..., cut : rows.shape[-1] - cut].mean(axis=-1))


def sign_flip(values: Sequence[float], seed: int = 0) -> float:
    """p-value of "the values lie round 0 or below it", against "above 0", for independent values that are symmetric
    round their centre.

    Flipping signs at random gives the distribution under the hypothesis (Fisher's randomization test); the statistic is
    the sum of signed ranks (Wilcoxon 1945), which one round gone wrong cannot carry. Exact up to 14 values, else from
    20,000 flips, counted with the observed one, so that it is never 0. ValueError of nothing.
    """
    if not len(values):
        raise ValueError("no test of nothing")
    sample = np.asarray(values, np.float64)
    ranks = _ranks(np.abs(sample))
    observed = float(np.sum(ranks * np.sign(sample)))
    if len(sample) <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=len(sample))), np.float64)
        return float(np.mean(signs @ ranks >= observed - 1e-9))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS, len(sample)))
    return float((1 + np.sum(signs @ ranks >= observed - 1e-9)) / (FLIPS + 1))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[where], np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for how many there are, so that the chance of any false one stays below the level asked for
    (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, running = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def noise_floor(effects: Sequence[float]) -> float | None:
    """How far two measurements of the same thing may lie apart: Q3 + 3 IQR of |log-ratios| seen where nothing changed
    (rustc-perf's significance threshold). None for fewer than 8."""
    if len(effects) < LEAST_EFFECTS:
        return None
    q1, q3 = np.quantile(np.abs(np.asarray(effects, np.float64)), (0.25, 0.75))
    return float(q3 + 3 * (q3 - q1))


def mcnemar(lost: int, won: int) -> float:
    """One-sided p-value of "as often lost as won", of pictures that only one of two nets has right: an exact binomial
    (McNemar 1947)."""
    total = lost + won
    if not total:
        return 1.0
    return float(sum(comb(total, count) for count in range(lost, total + 1)) / 2**total)
