import numpy as np
import pytest

from toolchain.accuracy.quality import MISTAKES, assess_quality
from toolchain.records.output import OutputKind

SHARES = OutputKind("softmax", in_graph=True)
SCORES = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.55, 0.0, 0.45], [0.7, 0.3, 0.0]], np.float32)
TRUTH = np.array([0, 1, 2, 1])


def test_each_class_has_what_it_should_what_it_was_given_and_what_was_right() -> None:
    quality = assess_quality(SCORES, TRUTH, SHARES)
    assert [(one.images, one.given, one.right) for one in quality.classes] == [(1, 3, 1), (2, 1, 1), (1, 0, 0)]
    assert [one.recall for one in quality.classes] == [1.0, 0.5, 0.0]
    assert [one.precision for one in quality.classes] == [1 / 3, 1.0, None]
    assert quality.confusion == ((0, 0, 1), (1, 0, 1), (1, 1, 1), (2, 0, 1))


def test_the_surest_mistakes_come_first() -> None:
    quality = assess_quality(SCORES, TRUTH, SHARES)
    assert [(one.position, one.true, one.predicted) for one in quality.mistakes] == [(3, (1,), 0), (2, (2,), 0)]
    assert [one.confidence for one in quality.mistakes] == pytest.approx([0.7, 0.55])


def test_the_calibration_error_is_the_mean_distance_of_being_right_from_being_sure() -> None:
    quality = assess_quality(SCORES, TRUTH, SHARES)
    assert quality.ece == pytest.approx((abs(1 - 0.9) + abs(1 - 0.8) + 0.55 + 0.7) / 4)
    assert sum(one.count for one in quality.bins) == 4


@pytest.mark.parametrize("share", [0.6, 0.8, 1.0])
def test_who_is_as_sure_as_right_has_no_calibration_error(share: float) -> None:
    count = 1000
    scores = np.tile(np.array([share, 1 - share], np.float32), (count, 1))
    truth = (np.arange(count) >= round(share * count)).astype(np.int64)
    assert assess_quality(scores, truth, SHARES).ece == pytest.approx(0, abs=1e-6)


def test_scores_that_are_no_probabilities_have_no_calibration_but_mistakes_in_order() -> None:
    quality = assess_quality(10 * SCORES, TRUTH, OutputKind("logits"))
    assert (quality.bins, quality.ece) == ((), None)
    assert [(one.position, one.confidence) for one in quality.mistakes] == [(3, None), (2, None)]


def test_one_output_stands_for_two_classes() -> None:
    quality = assess_quality(np.array([[3.0], [-3.0], [1.0]], np.float32), np.array([1, 0, 0]), OutputKind("sigmoid"))
    assert [(one.images, one.right) for one in quality.classes] == [(2, 1), (1, 1)]


def test_labels_that_do_not_exclude_each_other_are_predictions_of_their_own() -> None:
    scores = np.array([[0.9, 0.2], [0.6, 0.6], [0.1, 0.4]], np.float32)
    truth = np.array([[1, 1], [1, 0], [0, 0]])
    quality = assess_quality(scores, truth, OutputKind("sigmoid", in_graph=True))
    assert quality.measure == "F1"
    assert [(one.images, one.given, one.right) for one in quality.classes] == [(2, 2, 2), (1, 1, 0)]
    assert quality.confusion == ()
    assert [(one.position, one.true, one.predicted) for one in quality.mistakes] == [(0, (0, 1), 1), (1, (0,), 1)]
    assert sum(one.count for one in quality.bins) == truth.size


def test_of_many_mistakes_a_bounded_number_is_kept() -> None:
    scores = np.tile(np.array([0.9, 0.1], np.float32), (500, 1))
    assert len(assess_quality(scores, np.ones(500, np.int64), SHARES).mistakes) == MISTAKES


def test_a_score_that_is_no_number_spoils_no_figure() -> None:
    scores = SCORES.copy()
    scores[0] = np.nan
    quality = assess_quality(scores, TRUTH, OutputKind())
    assert quality.ece is not None
    assert np.isfinite(quality.ece)
