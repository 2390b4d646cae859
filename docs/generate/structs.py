"""msgspec structs as rows of a table: key, type, default, in words. Knows nothing of what a key is for."""

import inspect
import re
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from toolchain.recipe import field_order

Kind = type[msgspec.Struct]
PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", bytes: "bytes", Any: "anything"}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}  # signs that a reader knows


@dataclass(frozen=True)
class Key:
    """A field of a struct. default: as TOML or JSON would have it; "" where the key is required."""

    name: str
    type: str
    default: str
    required: bool


def keys(kind: Kind) -> list[Key]:
    order = field_order(kind)
    return [_key(field) for field in sorted(msgspec.structs.fields(kind), key=lambda field: order.index(field.name))]


def _key(field: msgspec.structs.FieldInfo) -> Key:
    if field.required:
        default = ""
    elif field.default is not msgspec.NODEFAULT:
        default = value_text(field.default)
    else:
        default = value_text(field.default_factory())
    return Key(field.encode_name, type_text(field.type), default, field.required)


def value_text(value: object) -> str:
    """As TOML has it; nothing for what is only left out."""
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "the table's own defaults"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list | set | frozenset):
        return f"[{', '.join(map(value_text, value))}]"
    return "{}" if value == {} else str(value)


def type_text(kind: Any) -> str:
    """`tuple[Annotated[int, Meta(ge=1)], ...] | None` as "list of whole numbers ≥ 1"."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_text(inner[0]) + "".join(_bounds(meta) for meta in inner[1:] if isinstance(meta, msgspec.Meta))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_text(one) for one in inner if one is not NoneType))
    if origin is Literal:
        return " or ".join(f"`{value_text(one)}`" for one in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"[{', '.join(map(type_text, inner))}]"
    if origin in (tuple, list, frozenset, set):
        return f"list of {type_text(inner[0]).replace('number', 'numbers')}"
    return _plain(kind) if origin is None else f"table of {type_text(inner[-1])}"


def _plain(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return PLAIN.get(kind, getattr(kind, "__name__", str(kind)))


def _bounds(meta: msgspec.Meta) -> str:
    found = [
        text.format(f"{getattr(meta, name):g}") for name, text in BOUNDS.items() if getattr(meta, name) is not None
    ]
    if meta.min_length:
        found.append(f"at least {meta.min_length}")
    if meta.pattern:
        found.append(f"matching `{meta.pattern}`")
    return f" {', '.join(found)}" if found else ""


def structs_in(kind: Any) -> list[Kind]:
    """The structs that a type mentions, itself first, each once, in the order in which a reader meets them."""
    found: list[Kind] = []
    _collect(kind, found)
    return found


def _collect(kind: Any, found: list[Kind]) -> None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind not in found:
            found.append(kind)
            for field in msgspec.structs.fields(kind):
                _collect(field.type, found)
        return
    for inner in get_args(kind):
        _collect(inner, found)


def descriptions(kind: Kind) -> dict[str, str]:
    """What the docstrings of a struct and of its bases say of a field ("name: text"), or the comment behind it."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            found |= _comments(inspect.getsource(one), names) | _entries(inspect.cleandoc(one.__doc__ or ""), names)
    return found


def introduction(kind: Kind) -> str:
    """The first paragraph of a struct's docstring, up to where it speaks of single fields; else its module's."""
    text = " ".join(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].split())
    mark = _mark([field.name for field in msgspec.structs.fields(kind)]).search(text)
    own = text[: mark.start()].strip(" ;") if mark else text
    return own or " ".join((inspect.getdoc(inspect.getmodule(kind)) or "").partition("\n\n")[0].split())


def _comments(source: str, names: list[str]) -> dict[str, str]:
    pairs = re.findall(r"^    (\w+): [^#\n]*#\s*(.+)$", source, re.MULTILINE)
    return {name: text for name, text in pairs if name in names}


def _entries(text: str, names: list[str]) -> dict[str, str]:
    """`a, b: what they are; c: what that is` by name."""
    marks = list(_mark(names).finditer(text))
    ends = [following.start() for following in marks[1:]] + [len(text)]
    found: dict[str, str] = {}
    for match, end in zip(marks, ends, strict=False):
        words = " ".join(text[match.end() : end].split("\n\n", maxsplit=1)[0].split()).rstrip(" ;.,")
        found |= dict.fromkeys(re.findall(r"\w+", match[1].replace(" and ", ", ")), words)
    return found


def _mark(names: list[str]) -> re.Pattern[str]:
    """`a: ` or `a, b and c: ` where all are names of fields."""
    any_name = "|".join(map(re.escape, names)) or "(?!)"
    return re.compile(rf"(?<![\w.])((?:{any_name})(?:(?:, | and )(?:{any_name}))*): ")
