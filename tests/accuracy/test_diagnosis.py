import numpy as np
import pytest

from toolchain.accuracy import explain_chance
from toolchain.accuracy.diagnosis import ScoredModel, other_inputs
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array, Preprocessing

SHAPE = Preprocessing(8, 8, 3, mean=(0.5,), std=(0.25,))
CLASSES = ("ant", "bee", "cat", "dog")
TRUTH = np.repeat(np.arange(4), 25)
SOFTMAX = OutputKind("softmax", in_graph=False)


def scores_for(classes: Array, wrong: float = 0.1) -> Array:
    random = np.random.default_rng(1)
    shown = np.where(random.random(len(classes)) < wrong, random.integers(0, 4, len(classes)), classes)
    return np.eye(4)[shown]


def explained(scores: Array, fitting: Preprocessing | None = None) -> str:
    """`fitting`: the preprocessing under which the model would answer right."""

    def scores_of(other: Preprocessing, positions: Array) -> Array:
        return scores_for(TRUTH[positions]) if other == fitting else scores[positions]

    return explain_chance(ScoredModel(scores, TRUTH, CLASSES, SOFTMAX, SHAPE, scores_of))


def test_a_model_that_is_better_than_chance_needs_no_explanation() -> None:
    assert explained(scores_for(TRUTH)) == ""
    assert explained(scores_for(TRUTH, wrong=0.8)) == ""


def test_outputs_in_another_order_than_the_folders_are_named() -> None:
    order = np.array([2, 0, 3, 1])  # output 0 is class 2
    found = explained(scores_for(np.argsort(order)[TRUTH]))
    assert found.startswith("no better than chance: top-1 ")
    assert "output 0 is cat, 1 is ant, 2 is dog, 3 is bee (" in found
    assert found.endswith("; write them in that order, one a line, into the file that labels under [model] names")


def test_the_reversed_order_is_recognized() -> None:
    assert "(reversed)" in explained(scores_for(3 - TRUTH))


@pytest.mark.parametrize(
    ("keys", "other"),
    [(keys, other) for keys, other in other_inputs(SHAPE) if "mean" not in keys or "order" not in keys],
)
def test_the_input_that_would_fit_is_named(keys: str, other: Preprocessing) -> None:
    random = np.random.default_rng(5).integers(0, 4, len(TRUTH))
    assert f"with {keys} under [input] it would be top-1 " in explained(scores_for(random), other)


def test_where_nothing_fits_the_line_says_where_to_look() -> None:
    random = np.random.default_rng(5).integers(0, 4, len(TRUTH))
    assert "look at model.weights" in explained(scores_for(random))


def test_grey_images_have_no_order_of_channels() -> None:
    assert not any("order" in keys or "Image" in keys for keys, _ in other_inputs(Preprocessing(8, 8, 1)))


def test_numbers_sorted_as_text_are_recognized_though_two_classes_keep_their_place() -> None:
    names = tuple(sorted(map(str, range(12))))
    truth = np.repeat(np.arange(12), 20)
    scores = np.eye(12)[np.array([int(name) for name in names])[truth]]  # output n stands for the class named n
    found = explain_chance(ScoredModel(scores, truth, names, SOFTMAX, SHAPE, lambda _, at: scores[at]))
    assert found.startswith("top-1 16.67% of 240 test images; its outputs are in another order")
    assert "(numbers sorted as numbers): output 0 is 0, 1 is 1, 2 is 2" in found


def test_a_model_of_some_use_that_no_mistake_explains_is_left_alone() -> None:
    truth, random = np.repeat(np.arange(4), 50), np.random.default_rng(2)
    scores = np.eye(4)[np.where(random.random(200) < 0.6, random.integers(0, 4, 200), truth)]
    assert explain_chance(ScoredModel(scores, truth, CLASSES, SOFTMAX, SHAPE, lambda _, at: scores[at])) == ""


def test_one_logit_of_the_first_class_is_said_of_its_one_output() -> None:
    truth, sigmoid = np.repeat([0, 1], 40), OutputKind("sigmoid", in_graph=False)
    scores = 4.0 - 8.0 * truth[:, None]
    found = explain_chance(ScoredModel(scores, truth, ("cat", "dog"), sigmoid, SHAPE, lambda _, at: scores[at]))
    assert "top-1 0.00% of 80 test images" in found
    assert "its one output is high for cat, and by sigmoid that is the second class, dog (top-1 100.0% then)" in found
    assert "write dog and then cat, one a line, into the file that labels under [model] names" in found


SEVERAL = np.random.default_rng(4).integers(0, 2, (120, 3))


def explained_labels(scores: Array, fitting: Preprocessing | None = None) -> str:
    def scores_of(other: Preprocessing, positions: Array) -> Array:
        return (8.0 * SEVERAL - 4.0)[positions] if other == fitting else scores[positions]

    names, sigmoid = ("ring", "square", "stripe"), OutputKind("sigmoid", in_graph=False)
    return explain_chance(ScoredModel(scores, SEVERAL, names, sigmoid, SHAPE, scores_of))


def test_labels_in_another_order_are_named_though_they_do_not_exclude_each_other() -> None:
    found = explained_labels(8.0 * SEVERAL[:, [2, 0, 1]] - 4.0)
    assert "output 0 is stripe, 1 is ring, 2 is square (F1 100.0% then)" in found


def test_the_channels_that_fit_several_labels_are_named() -> None:
    wrong = 8.0 * np.random.default_rng(9).integers(0, 2, (120, 3)) - 4.0
    bgr = next(other for keys, other in other_inputs(SHAPE) if keys == 'order = "bgr"')
    assert 'with order = "bgr" under [input] it would be F1 100.0%' in explained_labels(wrong, bgr)
    assert "look at model.weights" in explained_labels(wrong)


def test_two_mistakes_that_explain_it_alike_are_both_named() -> None:
    bgr = next(other for keys, other in other_inputs(SHAPE) if keys == 'order = "bgr"')
    found = explained_labels(8.0 * SEVERAL[:, [2, 1, 0]] - 4.0, bgr)
    assert "output 0 is stripe, 1 is square, 2 is ring" in found
    assert '; or with order = "bgr" under [input]' in found
