import numpy as np
import pytest

from deploy.gate.statistics import bootstrap_median, holm, mcnemar, median, noise_floor, sign_flip


def test_the_median_of_no_values_is_refused() -> None:
    assert median([3.0, 1.0, 2.0, 10.0]) == 2.5
    with pytest.raises(ValueError, match="no median of no values"):
        median([])


def test_the_interval_contains_the_true_median_as_often_as_its_level() -> None:
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


def test_the_sign_flip_test_detects_a_shift() -> None:
    random = np.random.default_rng(2)
    assert sign_flip([1.0] * 10) == pytest.approx(1 / 1024)
    assert sign_flip([-1.0] * 10) == 1.0
    assert sign_flip((random.standard_t(2, 40) + 1.5).tolist()) < 0.001
    assert sign_flip([-0.1, 0.1, -0.2, 0.2, 0.0]) > 0.4


@pytest.mark.parametrize("count", [10, 20])
def test_the_sign_flip_test_keeps_its_false_positive_rate(count: int) -> None:
    """Exact and by drawing; heavy tails."""
    random = np.random.default_rng(3)
    wrong = np.mean([sign_flip(random.standard_t(2, count).tolist()) <= 0.05 for _ in range(400)])
    assert wrong < 0.08


def test_one_outlier_round_neither_creates_nor_hides_a_shift() -> None:
    assert sign_flip([0.01, -0.01, 0.02, -0.02, 0.01, -0.03, 0.02, -0.01, 0.0, 900.0]) > 0.1
    assert sign_flip([0.03] * 11 + [-900.0]) < 0.1


def test_a_test_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no test of no values"):
        sign_flip([])


def test_holms_correction_raises_the_smallest_p_value_most() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_noise_floor_lies_above_all_observed_values_and_needs_eight() -> None:
    effects = [0.01, -0.012, 0.008, 0.011, -0.009, 0.01, 0.0095, -0.0105]
    floor = noise_floor(effects)
    assert floor is not None
    assert max(map(abs, effects)) < floor < 0.02
    assert noise_floor(effects[:7]) is None


def test_mcnemar_counts_only_images_on_which_the_models_differ() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(1 / 32)
    assert mcnemar(3, 3) > 0.5
