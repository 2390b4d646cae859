import numpy as np
import pytest

from deploy.statistics import bootstrap_median, median


def test_the_median_of_nothing_is_refused() -> None:
    assert median([3.0, 1.0, 2.0, 10.0]) == 2.5
    with pytest.raises(ValueError, match="no median of nothing"):
        median([])


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    truth = float(np.exp(1.0))  # of a log-normal: skewed, as latencies are
    held = [
        low <= truth <= high
        for low, high in (bootstrap_median(random.lognormal(1.0, 0.5, 21).tolist(), resamples=300) for _ in range(200))
    ]
    assert 0.9 <= np.mean(held) <= 0.99


def test_the_interval_repeats_and_narrows_with_more_rounds() -> None:
    values = np.random.default_rng(0).normal(0, 1, 200).tolist()
    few, many = bootstrap_median(values[:10]), bootstrap_median(values)
    assert bootstrap_median(values) == many
    assert many[1] - many[0] < few[1] - few[0]
    assert bootstrap_median(values, level=0.5)[0] > many[0]


def test_one_outlier_does_not_move_the_interval_to_itself() -> None:
    assert bootstrap_median([1.0] * 20 + [1000.0]) == (1.0, 1.0)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        bootstrap_median([1.0])
