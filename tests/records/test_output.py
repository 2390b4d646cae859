import numpy as np
import pytest

from toolchain.records.output import OutputKind, match_decisions, mean_average_precision

SCORES = np.array([[-2.0, 3.0], [1.0, -1.0], [0.5, 0.5]], np.float32)


def test_a_softmax_gives_shares_of_one_and_takes_the_highest() -> None:
    kind = OutputKind("softmax", in_graph=False)
    assert kind.class_values(SCORES).sum(1) == pytest.approx([1, 1, 1])
    assert kind.decide(SCORES).tolist() == [1, 0, 0]
    np.testing.assert_allclose(kind.class_values(np.array([[1000.0, 1000.0]])), [[0.5, 0.5]])


def test_probabilities_in_the_graph_are_not_made_again() -> None:
    shares = np.array([[0.9, 0.1]], np.float32)
    assert OutputKind("softmax", in_graph=True).class_values(shares).tolist() == shares.astype(np.float64).tolist()
    one = np.array([[0.8], [0.4]])
    kind = OutputKind("sigmoid", in_graph=True)
    np.testing.assert_allclose(kind.class_values(one), [[0.2, 0.8], [0.6, 0.4]])
    assert kind.decide(one).tolist() == [1, 0]


def test_a_bundle_of_before_tells_probabilities_by_their_sum() -> None:
    rows = np.array([[0.9, 0.1], [0.9, 0.2]])
    found = OutputKind().class_values(rows)
    assert found[0].tolist() == [0.9, 0.1]
    np.testing.assert_allclose(found[1], np.exp([0.9, 0.2]) / np.exp([0.9, 0.2]).sum())


def test_one_output_by_sigmoid_is_two_classes() -> None:
    kind, logits = OutputKind("sigmoid", in_graph=False), np.array([[0.0], [-800.0], [np.log(3)]])
    np.testing.assert_allclose(kind.class_values(logits), [[0.5, 0.5], [1, 0], [0.25, 0.75]], atol=1e-12)
    assert kind.decide(logits).tolist() == [1, 0, 1]
    assert (kind.fits(1, 2), kind.fits(1, 1), kind.fits(1, 3)) == (True, False, False)
    assert kind.measure(1) == "top-1"


def test_several_outputs_by_sigmoid_are_labels_graded_by_the_f1_of_each_image() -> None:
    kind = OutputKind("sigmoid", in_graph=False)
    scores = np.array([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    truth = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert kind.decide(scores).tolist() == [[True, False, True], [False] * 3, [True, True, False]]
    assert kind.grade(scores, truth) == pytest.approx([2 / 3, 1, 0])
    assert kind.grade(scores, np.array([0, 1, 1])) == pytest.approx([2 / 3, 0, 2 / 3])  # one class an image
    assert kind.measure(3) == "F1"


def test_bare_scores_have_no_probabilities() -> None:
    kind = OutputKind("logits")
    assert not kind.has_probabilities
    assert kind.class_values(SCORES).tolist() == SCORES.tolist()
    assert kind.decide(SCORES).tolist() == [1, 0, 0]


def test_what_is_not_finite_is_never_right() -> None:
    scores = np.array([[np.nan, 1.0], [2.0, 1.0]])
    assert OutputKind().grade(scores, np.array([0, 0])).tolist() == [0, 1]
    assert match_decisions(np.array([1, 2]), np.array([1, 1])).tolist() == [1, 0]


def test_average_precision_is_that_of_paper_and_pencil() -> None:
    scores = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.1], [0.6, 0.0]])
    truth = np.array([[1, 1], [0, 0], [1, 0], [0, 0]])
    each = [0.5 * 1 + 0.5 * 2 / 3, 0.5]  # of equal scores both are taken at once
    assert mean_average_precision(scores, truth) == pytest.approx(sum(each) / 2)
    assert mean_average_precision(np.eye(4)[:, :3], np.arange(3).repeat(2)[:4]) is not None  # one class an image
    assert mean_average_precision(scores, np.zeros((4, 2), np.int64)) is None
