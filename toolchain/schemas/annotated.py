"""A TOML file that has every key once, with an example value, and behind it `# [unit] what it means`.

The examples are read by the very structs that they explain, and a key without a line, or a line without a key, is an
error: so they cannot lag behind.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TABLE = re.compile(r"\[\[?(?P<name>[\w.]+)\]\]?")
LINE = re.compile(r"(?P<key>\w+) = (?P<value>.*?)\s+# (?:\[(?P<unit>[^\]]+)\] )?(?P<words>.+)")


@dataclass(frozen=True)
class Example:
    value: str
    unit: str
    words: str


@dataclass(frozen=True)
class Annotated:
    """examples: by the dotted name of the key; tables: what the comment above a table says of it."""

    text: str
    document: dict[str, Any]
    examples: dict[str, Example]
    tables: dict[str, str]


def read_annotated(name: str) -> Annotated:
    text = (FOLDER / name).read_text()
    place, above, examples, tables = "", list[str](), dict[str, Example](), dict[str, str]()
    for line in text.splitlines():
        if line.startswith("# "):
            above.append(line[2:])
        elif match := TABLE.match(line):
            place = match["name"]
            tables[place] = " ".join(above)
            above = []
        elif match := LINE.fullmatch(line):
            key = f"{place}.{match['key']}".lstrip(".")
            examples[key] = Example(f"{match['key']} = {match['value']}", match["unit"] or "", match["words"])
        elif line.strip():
            raise ValueError(f"{name}: expected `key = value  # [unit] what it means`, found: {line}")
        else:
            above = []
    return Annotated(text, tomllib.loads(text), examples, tables)


def check_complete(name: str, explained: Iterable[str], there: Iterable[str]) -> None:
    """ValueError for keys without an explanation, and for explanations of keys that are gone."""
    keys, lines = set(there), set(explained)
    missing, gone = keys - lines, lines - keys
    if missing or gone:
        raise ValueError(f"toolchain/schemas/{name}: no line for {sorted(missing)}; no such key: {sorted(gone)}")
