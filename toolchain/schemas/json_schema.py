"""JSON Schemas (draft 2020-12) of recipes and inventories, by which editors complete and check their TOML.

Types, bounds and defaults come from the structs that read the files; descriptions, units and examples from the
annotated examples in this folder.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from deploy.servers.inventory import Inventory
from toolchain.compress import TABLE, parse_steps
from toolchain.recipe import RecipeFile
from toolchain.schemas.annotated import Annotated, read_annotated

DIALECT, REFERENCE = "https://json-schema.org/draft/2020-12/schema", "#/$defs/{name}"
JsonSchema = dict[str, Any]


def recipe_schema() -> JsonSchema:
    """Of a recipe, with the options of every compression step."""
    steps = {name: step_kind(name) for name in sorted(TABLE)}
    (root, *references), definitions = msgspec.json.schema_components(
        (RecipeFile, *steps.values()), ref_template=REFERENCE
    )
    notes, options = read_annotated("recipe.toml"), read_annotated("steps.toml")
    recipe = _add_descriptions(root, definitions, notes)
    for name, reference in zip(steps, references, strict=True):
        definition = _definition(reference, definitions)
        definition["description"] = options.tables[name]
        for option, schema in definition["properties"].items():
            own = f"{name}.{option}"
            _describe(schema, options, own if own in options.examples else f"shared.{option}")
    named = dict(zip(steps, references, strict=True))
    one_step = {"type": "object", "properties": named, "additionalProperties": False}
    recipe["properties"]["step"]["items"] = {**one_step, "minProperties": 1, "maxProperties": 1}
    return _document("Recipe", root, definitions)


def inventory_schema() -> JsonSchema:
    """Of an inventory of edge servers."""
    (root,), definitions = msgspec.json.schema_components((Inventory,), ref_template=REFERENCE)
    _add_descriptions(root, definitions, read_annotated("inventory.toml"))
    return _document("Inventory", root, definitions)


def step_kind(name: str) -> type[msgspec.Struct]:
    """The struct of a compression step's options."""
    ((_, step),) = parse_steps(({name: {}},), name)
    return type(step)  # type: ignore[return-value]  # every step is a struct; its Protocol cannot say so


def _document(title: str, root: JsonSchema, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    return {"$schema": DIALECT, "title": title, **root, "$defs": definitions}


def _add_descriptions(root: JsonSchema, definitions: Mapping[str, JsonSchema], notes: Annotated) -> JsonSchema:
    """The definition of `root`, its keys and those of its tables described."""
    whole = _definition(root, definitions)
    whole.pop("description", None)
    for key, schema in whole["properties"].items():
        if key in notes.examples:
            _describe(schema, notes, key)
    for table, words in notes.tables.items():
        schema = whole["properties"][table.split(".")[0]]
        schema["description"] = words
        definition = _definition(schema, definitions)
        for key, inner in definition.get("properties", {}).items():
            if f"{table}.{key}" in notes.examples:
                _describe(inner, notes, f"{table}.{key}")
                definition.pop("description", None)
    return whole


def _describe(schema: JsonSchema, notes: Annotated, place: str) -> None:
    example = notes.examples[place]
    schema["description"] = f"{example.words} [{example.unit}]" if example.unit else example.words
    value: Any = notes.document
    for part in place.split("."):
        value = (value[0] if isinstance(value, list) else value)[part]
    schema["examples"] = [value]


def _definition(schema: Any, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    """The first struct that `schema` refers to; an empty one where it refers to none."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return definitions[schema["$ref"].rpartition("/")[2]]
        schema = list(schema.values())
    found = (_definition(part, definitions) for part in schema if isinstance(part, dict | list))
    return next(filter(None, found), {})
