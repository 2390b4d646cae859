"""A recipe as a value -> the TOML that says the same, so that every recipe is checked and kept as text.

Knows nothing of what keys mean: what does not fit is refused when the text is read.
"""

import re
from collections.abc import Iterator, Mapping
from json import dumps
from pathlib import Path
from typing import Any

import msgspec

from toolchain.errors import RecipeError
from toolchain.recipe import Recipe

BARE = re.compile(r"[A-Za-z0-9_-]+")


def name_recipe(recipe: Recipe) -> Path:
    """How messages call a recipe that is in no file; its paths are relative to the current folder."""
    return Path(f"Recipe {str(recipe.name).replace('/', '_')!r}")


def format_recipe(recipe: Recipe) -> str:
    """Keys that have their default are left out. RecipeError for a value that TOML does not have."""
    document = _plain(recipe)
    steps = document.pop("step", [])
    plain = {key: value for key, value in document.items() if not isinstance(value, dict)}
    lines = [f"{_key(key)} = {_value(value, key)}" for key, value in plain.items()]
    for key, table in document.items():
        if isinstance(table, dict):
            lines += ["", f"[{_key(key)}]"]
            lines += [f"{_key(inner)} = {_value(value, f'{key}.{inner}')}" for inner, value in table.items()]
    for number, step in enumerate(steps, 1):
        lines += ["", "[[step]]"]
        lines += [f"{_key(name)} = {_value(options, f'step {number}, {name}')}" for name, options in step.items()]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """Structs as dictionaries of what is not their default."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(member) for name, member in _set_fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, list | tuple) else value


def _set_fields(record: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(record):
        value = getattr(record, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value is not None and (default is msgspec.NODEFAULT or value != default):
            yield field.name, value


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else dumps(name)


def _value(value: Any, place: str) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return dumps(str(value)).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(_value(member, place) for member in value)}]"
        case dict():
            inner = (f"{_key(key)} = {_value(member, f'{place}.{key}')}" for key, member in value.items())
            return f"{{ {', '.join(inner)} }}" if value else "{}"
        case _:
            raise RecipeError(
                f"{place} = {value!r}: no value of a recipe; expected text, a number, true or false, a list or a table"
            )
