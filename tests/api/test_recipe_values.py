"""A recipe as a value says the same as its file, and is checked as that is."""

from pathlib import Path

import pytest

import toolchain as edge
from tests.house.tree import ROOT
from toolchain.errors import RecipeError
from toolchain.recipe import parse_recipe, read_recipe
from toolchain.recipe_toml import format_recipe, name_recipe

RECIPES = sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "examples").glob("*/*.toml")])


def small(**changes: object) -> edge.Recipe:
    keys = {
        "name": "small",
        "model": edge.ModelSpec(source="nets.py:small"),
        "input": edge.InputSpec(height=8, width=8),
    }
    return edge.Recipe(**{**keys, **changes})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_the_same_after_it_was_written(path: Path) -> None:
    recipe = read_recipe(path)
    assert parse_recipe(format_recipe(recipe), path) == recipe


def test_text_of_any_letters_is_the_same_after_it_was_written() -> None:
    recipe = small(model=edge.ModelSpec(source='a "b" \\ ü.py:f', options={"a b": 1.5, "c": True}))
    assert parse_recipe(format_recipe(recipe), Path("x")).model == recipe.model


def test_plain_tables_do_instead_of_the_structs() -> None:
    plain = edge.Recipe(name="small", model={"source": "nets.py:small"}, input={"height": 8, "width": 8})
    assert format_recipe(plain) == format_recipe(small())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"input": {"height": 8, "width": 8, "mean": [124.0]}},
            r"^Recipe 'small': input: mean = \[124\]; ",
        ),
        ({"input": {"height": 8}}, r"^Recipe 'small': \[input\] needs `width`"),
        ({"step": [{"quantise": {}}]}, r"^Recipe 'small': step 1: no step 'quantise'"),
        ({"step": [{"quantize": {"samples": None}}]}, r"^step 1, quantize\.samples = None: no value of a recipe"),
        ({"name": "a/b"}, r"^Recipe 'a_b': name: expected"),
    ],
)
def test_what_does_not_fit_is_refused_as_in_a_file(changes: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        edge.build(small(**changes), target="null")


def test_messages_name_the_recipe_that_is_in_no_file() -> None:
    assert str(name_recipe(small())) == "Recipe 'small'"
    assert name_recipe(small()).parent == Path()
