"""A Preprocessing as the lines of [input] that say it."""

import msgspec

from toolchain.records.tensors import Preprocessing


def input_lines(preprocessing: Preprocessing, whole: bool = False) -> list[str]:
    """height and width, and every key that is not at its default, or all (whole), as TOML."""
    fields = msgspec.structs.fields(Preprocessing)
    values = [(field.name, getattr(preprocessing, field.name), field.default) for field in fields]
    return [f"{name} = {_toml(value)}" for name, value, default in values if whole or value != default]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value!r}"
