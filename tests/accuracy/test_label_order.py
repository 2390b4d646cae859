import numpy as np
import pytest

from tests.data.permuted_labels import data_of
from toolchain.accuracy.label_order import refuse_labels
from toolchain.data.class_names import align_classes

WAYS = 50


@pytest.mark.parametrize("seed", range(WAYS))
def test_labels_in_another_order_are_mapped_or_refused_and_never_give_another_name(seed: int) -> None:
    """Half of the nets were trained in the order of their labels, the others in that of the folders, beside which the
    labels are then wrong."""
    random = np.random.default_rng(seed)
    classes = tuple(f"class {letter}" for letter in "abcdefghijkl"[: random.integers(3, 13)])
    order = random.permutation(len(classes))
    while np.array_equal(order, np.arange(len(classes))):
        order = random.permutation(len(classes))
    labels = tuple(classes[at] for at in order)
    outputs = labels if seed % 2 else classes
    data = data_of(classes, each=20)
    shown = [classes[at] for at in data.split("test").labels]
    decisions = np.array([outputs.index(name) for name in shown])
    wrong = random.random(len(decisions)) < 0.1
    decisions[wrong] = random.integers(0, len(classes), int(wrong.sum()))
    aligned = align_classes(data, labels, "recipe.toml")
    refusal = refuse_labels(decisions, aligned.split("test").labels, aligned.renumbered, labels)
    assert bool(refusal) == (outputs == classes)
    if refusal:
        first = next(at for at in range(len(classes)) if labels[at] != classes[at])
        assert f"output {first} is {classes[first]!r} and not {labels[first]!r}: " in refusal
    else:
        named = [aligned.classes[at] for at in decisions]
        assert np.mean([name == true for name, true in zip(named, shown, strict=True)]) > 0.8


def test_labels_in_the_order_of_the_data_are_never_refused() -> None:
    data = data_of(("a", "b"))
    aligned = align_classes(data, ("a", "b"), "recipe.toml")
    assert refuse_labels(1 - data.split("test").labels, aligned.split("test").labels, aligned.renumbered, "ab") == ""
