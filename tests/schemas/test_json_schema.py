"""The schemas describe every key, and agree with the readers on what fits."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from toolchain.schemas.annotated import FOLDER, read_annotated
from toolchain.schemas.json_schema import inventory_schema, recipe_schema

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


@pytest.fixture(scope="module")
def recipes() -> Draft202012Validator:
    Draft202012Validator.check_schema(recipe_schema())
    return Draft202012Validator(recipe_schema())


@pytest.mark.parametrize("place", [*RECIPES, FOLDER / "recipe.toml"], ids=lambda place: place.name)
def test_the_recipes_fit(place: Path, recipes: Draft202012Validator) -> None:
    recipes.validate(tomllib.loads(place.read_text()))


def test_every_step_fits(recipes: Draft202012Validator) -> None:
    document = read_annotated("steps.toml").document
    recipe = tomllib.loads((FOLDER / "recipe.toml").read_text())
    recipes.validate({**recipe, "step": [{name: options} for name, options in document.items() if name != "shared"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": [{"finetune": {"ephocs": 2}}]}, "'ephocs' was unexpected"),
        ({"step": [{"finetun": {}}]}, "'finetun' was unexpected"),
        ({"build": {"prefer": "speed"}}, "'speed' is not one of"),
        ({"name": "a b"}, "does not match"),
    ],
)
def test_what_a_reader_refuses_the_schema_refuses(
    change: dict[str, Any], message: str, recipes: Draft202012Validator
) -> None:
    recipe = tomllib.loads((FOLDER / "recipe.toml").read_text()) | change
    assert message in " ".join(error.message for error in recipes.iter_errors(recipe))


def test_the_inventory_fits() -> None:
    for place in (FOLDER / "inventory.toml", ROOT / "examples" / "inventory.toml"):
        Draft202012Validator(inventory_schema()).validate(tomllib.loads(place.read_text()))


def undescribed(schema: dict[str, Any]) -> Iterator[str]:
    for name, definition in schema["$defs"].items():
        for key, inner in definition.get("properties", {}).items():
            if "description" not in inner:
                yield f"{name}.{key}"


def test_every_key_is_described() -> None:
    assert [*undescribed(recipe_schema()), *undescribed(inventory_schema())] == []
