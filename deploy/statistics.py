"""What judging needs of statistics: pure functions of numbers, no knowledge of releases.

Nothing here assumes that latencies are normal: they are skewed, with a tail, and drift. Means and standard deviations
of them mislead, so medians and the bootstrap are used throughout.
"""

from collections.abc import Sequence

import numpy as np

from deploy.runtime.proportion import wilson
from toolchain.records.report import SAMPLES_FOR, percentile

__all__ = ["SAMPLES_FOR", "bootstrap_median", "median", "percentile", "wilson"]

RESAMPLES = 4000


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
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    sample = np.asarray(values, np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))
    medians = np.median(sample[picks], axis=1)
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
