"""Recipe and inventory: every key from the structs that read them, explained by the annotated examples."""

from collections.abc import Iterator
from typing import Any

import msgspec

from deploy.servers.inventory import Inventory, read_inventory
from docs.generate.markdown import code, fence, page, table
from docs.generate.structs import Key, Kind, keys, structs_in
from toolchain.backends import TABLE, backend
from toolchain.recipe import RecipeFile, read_recipe
from toolchain.schemas.annotated import FOLDER, Annotated, Example, check_complete, read_annotated

HEAD = ("key", "type", "default", "unit", "meaning")
RECIPE = """A recipe is a TOML file that says which model, which data, which steps, and how much accuracy may be lost.
Relative paths are relative to the recipe. An unknown key is refused, and the nearest known one is named. Start from a
file in `recipes/`, or from the [complete example](#every-key-in-one-file)."""
INVENTORY = """The inventory names the edge servers and says how a release spreads over them. `toolchain ship` and the
other commands for servers read `inventory.toml` in the working directory, unless `--inventory=` names another file."""


def recipe_page() -> str:
    read_recipe(FOLDER / "recipe.toml")
    return page(
        "Recipe",
        "the recipe's structs and toolchain/schemas/recipe.toml",
        RECIPE,
        *_sections("recipe.toml", RecipeFile),
    )


def inventory_page() -> str:
    read_inventory(FOLDER / "inventory.toml")
    source = "the inventory's structs and toolchain/schemas/inventory.toml"
    return page("Inventory", source, INVENTORY, *_sections("inventory.toml", Inventory))


def _sections(name: str, root: Kind) -> Iterator[str]:
    notes = read_annotated(name)
    headed = {table_name.split(".")[0] for table_name in notes.tables}
    sections = {"": [key for key in keys(root) if key.name not in headed]}
    sections |= {place: _keys_of(root, place, notes) for place in notes.tables}
    check_complete(name, notes.examples, (_dotted(place, key.name) for place in sections for key in sections[place]))
    for place, found in sections.items():
        if found:
            yield f"## {_title(notes, place)}" if place else "## Top level"
            yield notes.tables.get(place, "")
            yield table(HEAD, (_row(key, notes.examples[_dotted(place, key.name)]) for key in found))
            yield fence(_example(notes, place, found), "toml")
    yield f"## Every key in one file\n\n{fence(notes.text, 'toml')}"


def _keys_of(root: Kind, place: str, notes: Annotated) -> list[Key]:
    """Of the table `place`: a field of the root that is a struct, or what a back end takes under [target.NAME]."""
    field, _, target = place.partition(".")
    if target in TABLE:
        values = notes.document[field][target]
        return [Key(option, _type_of(values[option]), "", False) for option in sorted(backend(target).OPTIONS)]
    kind = next(one.type for one in msgspec.structs.fields(root) if one.name == field)
    found = structs_in(kind)
    return keys(found[0]) if found else [Key(option, "table", "", False) for option in notes.document[field][0]]


def _type_of(value: Any) -> str:
    """Of an option that no struct describes."""
    return {str: "text", bool: "true or false", float: "number", int: "whole number", list: "list of whole numbers"}[
        type(value)
    ]


def _title(notes: Annotated, place: str) -> str:
    value: Any = notes.document
    for part in place.split("."):
        value = value[part]
    return f"[[{place}]]" if isinstance(value, list) else f"[{place}]"


def _example(notes: Annotated, place: str, found: list[Key]) -> str:
    head = [_title(notes, place)] if place else []
    return "\n".join([*head, *(notes.examples[_dotted(place, key.name)].value for key in found)])


def _row(key: Key, example: Example) -> tuple[str, ...]:
    default = "**required**" if key.required else code(key.default)
    return (code(key.name), key.type, default, example.unit, example.words)


def _dotted(place: str, name: str) -> str:
    return f"{place}.{name}".lstrip(".")
