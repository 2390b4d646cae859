"""The gate's statistics: pure functions of numbers, which know nothing of releases.

Latencies are not assumed to be normal: they are skewed, have a long tail, and drift. Means and standard deviations
mislead, so medians, trimmed means and the bootstrap are used throughout.
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

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
EXACT_VALUES = 14  # up to this many values, all 2**n sign flips are counted
TRIMMED = 0.2  # share of the values cut at each end
MIN_EFFECTS = 8  # quartiles of fewer values are meaningless


def median(values: Sequence[float]) -> float:
    """The median. ValueError for no values."""
    if not len(values):
        raise ValueError("no median of no values")
    return float(np.median(np.asarray(values, np.float64)))


def trimmed_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest fifth (Tukey 1962): nearly as precise as the mean for normal values,
    nearly as robust as the median against outliers. ValueError for no values."""
    from scipy.stats import trim_mean

    if not len(values):
        raise ValueError("no mean of no values")
    return float(trim_mean(values, TRIMMED))


def bootstrap_median(
    values: Sequence[float], level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The interval (low, high) of the median of `values` at confidence `level`, by the percentile bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. `values` must be independent: rounds, not
    the requests inside a round. The same values and seed give the same interval. ValueError for fewer than two values.
    """
    return _bootstrap(values, np.median, level, resamples, seed)


def bootstrap_trimmed(values: Sequence[float], level: float, seed: int = 0) -> tuple[float, float]:
    """As bootstrap_median, for the trimmed mean."""
    from scipy.stats import trim_mean

    return _bootstrap(values, lambda rows, axis: trim_mean(rows, TRIMMED, axis), level, RESAMPLES, seed)


def _bootstrap(
    values: Sequence[float], statistic: Callable[..., object], level: float, resamples: int, seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    interval = bootstrap(
        (np.asarray(values, np.float64),),
        statistic,
        confidence_level=level,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def sign_flip(values: Sequence[float], seed: int = 0) -> float:
    """p-value of the hypothesis that `values` are centred on 0 or below, against above 0. The values must be
    independent and symmetric about their centre. ValueError for no values.

    Random sign flips give the distribution under the hypothesis (Fisher's randomization test). The statistic is the sum
    of signed ranks (Wilcoxon 1945), which a single outlier cannot dominate. Exact up to 14 values; beyond, estimated
    from 20,000 flips plus the observed one, so that it is never 0.
    """
    from scipy.stats import rankdata

    if not len(values):
        raise ValueError("no test of no values")
    sample = np.asarray(values, np.float64)
    ranks = np.asarray(rankdata(np.abs(sample)), np.float64)
    observed = float(np.sum(ranks * np.sign(sample)))
    if len(sample) <= EXACT_VALUES:
        signs = np.array(list(product((-1, 1), repeat=len(sample))), np.float64)
        return float(np.mean(signs @ ranks >= observed - 1e-9))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS, len(sample)))
    return float((1 + np.sum(signs @ ranks >= observed - 1e-9)) / (FLIPS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, so that the chance of any false positive stays below the level asked for
    (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, running = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = running
    return adjusted


def noise_floor(effects: Sequence[float]) -> float | None:
    """How far two measurements of the same release may differ: Q3 + 3 IQR of the |log-ratios| seen between identical
    releases (rustc-perf's significance threshold). None for fewer than 8."""
    if len(effects) < MIN_EFFECTS:
        return None
    q1, q3 = np.quantile(np.abs(np.asarray(effects, np.float64)), (0.25, 0.75))
    return float(q3 + 3 * (q3 - q1))


def mcnemar(lost: int, won: int) -> float:
    """One-sided p-value of "lost as often as won", over the images that only one of two models classifies correctly:
    an exact binomial test (McNemar 1947)."""
    from scipy.stats import binomtest

    return float(binomtest(lost, lost + won, alternative="greater").pvalue) if lost + won else 1.0
