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
    assert f"with {keys} under [input], " in explained(scores_for(random), other)


def test_where_nothing_fits_the_line_says_where_to_look() -> None:
    random = np.random.default_rng(5).integers(0, 4, len(TRUTH))
    assert "look at model.weights" in explained(scores_for(random))


def test_grey_images_have_no_order_of_channels() -> None:
    assert not any("order" in keys or "Image" in keys for keys, _ in other_inputs(Preprocessing(8, 8, 1)))
