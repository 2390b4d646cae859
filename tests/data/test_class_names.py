import numpy as np
import pytest

from tests.data.permuted_labels import CLASSES, data_of
from toolchain.data.class_names import align_classes, rename_classes
from toolchain.errors import RecipeError

PLACE = "recipe.toml"


def test_the_same_names_in_another_order_are_mapped_and_said(messages: list[str]) -> None:
    aligned = align_classes(data_of(CLASSES), ("dog", "cat", "ant", "bee"), PLACE)
    assert aligned.classes == ("dog", "cat", "ant", "bee")
    assert aligned.split("test").labels.tolist() == [2, 3, 1, 0] * 10
    assert aligned.renumbered == (2, 3, 1, 0)
    assert aligned.sha256 != data_of(CLASSES).sha256
    assert messages == [
        "labels: model.labels has the classes in another order than the data, and is what counts: output 0 is dog, "
        "output 1 is cat, output 2 is ant, output 3 is bee"
    ]


def test_several_labels_of_an_image_are_mapped_too() -> None:
    data = data_of(CLASSES, multilabel=True)
    aligned = align_classes(data, ("dog", "cat", "ant", "bee"), PLACE)
    names = [[aligned.classes[at] for at in np.flatnonzero(row)] for row in aligned.split("test").labels]
    expected = [{CLASSES[at] for at in np.flatnonzero(row)} for row in data.split("test").labels]
    assert [set(each) for each in names] == expected


@pytest.mark.parametrize(
    ("classes", "labels", "numbers"),
    [
        (("ant", "bee"), ("ant", "bee"), [0, 1]),
        (("Ant_small", "bee"), ("Bee", "ant small"), [1, 0]),
        (("0", "1", "10", *"23456789"), tuple("abcdefghijk"), [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]),
        (("1", "2"), ("one", "two"), [0, 1]),
        (("0-cat", "1-ant"), ("cat", "ant"), [0, 1]),
        (("0-cat", "1-ant"), ("Katze", "Ameise"), [0, 1]),
    ],
)
def test_names_are_compared_as_people_write_them(
    classes: tuple[str, ...], labels: tuple[str, ...], numbers: list[int]
) -> None:
    aligned = align_classes(data_of(classes), labels, PLACE)
    assert aligned.split("test").labels[: len(classes)].tolist() == numbers
    assert aligned.classes == labels


def test_other_names_ask_for_a_mapping_and_get_one() -> None:
    labels = ("Katze", "Ameise", "bee", "dog")
    with pytest.raises(RecipeError) as refused:
        align_classes(data_of(CLASSES), labels, PLACE)
    assert str(refused.value) == (
        "recipe.toml: model.labels names Katze, Ameise, the data's classes are called ant, cat; write which is which "
        'under [data.names], as in: ant = "Katze"'
    )
    renamed = rename_classes(data_of(CLASSES), {"ant": "Ameise", "cat": "Katze"}, PLACE)
    assert align_classes(renamed, labels, PLACE).split("test").labels[:4].tolist() == [1, 2, 0, 3]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"cow": "Kuh"}, "the data has no class 'cow'; it has ant, bee, cat, dog"),
        ({"ant": "bee"}, "two classes would be 'bee'; expected another name for each"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(names: dict[str, str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        rename_classes(data_of(CLASSES), names, PLACE)


def test_a_number_that_contradicts_the_name_behind_it_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the class '0-cat' has another number in model.labels, where 0 is 'ant'"):
        align_classes(data_of(("0-cat", "1-ant")), ("ant", "cat"), PLACE)


def test_another_number_of_labels_is_left_to_whoever_loads_the_model() -> None:
    data = data_of(CLASSES)
    assert align_classes(data, ("cat",), PLACE) is data
