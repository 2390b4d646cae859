import numpy as np
import pytest

from toolchain.accuracy.chance import compare_with_chance

TRUTH = np.repeat(np.arange(4), 20)
RANDOM = np.random.default_rng(0)


def test_chance_is_what_the_answers_would_get_for_other_images() -> None:
    found = compare_with_chance(np.zeros(500, np.int64), np.repeat([0, 1], [450, 50]))  # always the commonest class
    assert (found.accuracy, found.chance) == (0.9, pytest.approx(0.9))
    assert found.is_at_chance


def test_a_good_model_of_lopsided_data_is_not_at_chance() -> None:
    truth = np.repeat([0, 1], [1960, 40])
    answers = truth.copy()
    answers[:30], answers[1960:1980] = 1, 0  # 97.5 % right, less than the commonest class alone: 98 %
    assert not compare_with_chance(answers, truth).is_at_chance


@pytest.mark.parametrize("answers", [(TRUTH + 1) % 4, RANDOM.integers(0, 4, 80), np.full(80, 2)])
def test_wrong_and_random_and_constant_answers_are_at_chance(answers: np.ndarray) -> None:
    assert compare_with_chance(answers, TRUTH).is_at_chance


def test_a_handful_of_images_refuses_nothing_that_may_be_good() -> None:
    truth = np.arange(4)
    assert not compare_with_chance(np.array([0, 1, 2, 0]), truth).is_at_chance
    assert not compare_with_chance(np.array([0, 0]), np.array([0, 1])).is_at_chance


def test_one_class_alone_says_nothing_of_chance() -> None:
    assert not compare_with_chance(np.zeros(50, np.int64), np.zeros(50, np.int64)).is_at_chance


def test_labels_are_at_chance_where_other_images_fit_them_as_well() -> None:
    truth = RANDOM.integers(0, 2, (60, 3))
    assert compare_with_chance(np.ones((60, 3), bool), truth).is_at_chance
    assert compare_with_chance(RANDOM.integers(0, 2, (60, 3)).astype(bool), truth).is_at_chance
    noisy = truth.astype(bool) ^ (RANDOM.random((60, 3)) < 0.1)
    assert not compare_with_chance(noisy, truth).is_at_chance
