"""The compression steps and their options, from the structs of toolchain/compress and the annotated examples."""

import inspect
from collections.abc import Iterator

from docs.generate.markdown import code, fence, page, table
from docs.generate.structs import Key, Kind, keys
from toolchain.compress import TABLE, parse_steps
from toolchain.schemas.annotated import Annotated, Example, check_complete, read_annotated
from toolchain.schemas.json_schema import step_kind

SHARED, PLACE = "shared", "toolchain/schemas/steps.toml"
HEAD = ("option", "type", "default", "unit", "meaning", "example")
ABOUT = """A recipe's `[[step]]` tables are applied in order. Each names one step and its options; an option that is
left out has its default. An order that cannot work, a layer that does not exist, data without what a step needs: each
is refused in one line before any training starts. How to choose steps: [Compression](../guides/compression.md)."""


def steps_page() -> str:
    notes, kinds = read_annotated("steps.toml"), {name: step_kind(name) for name in sorted(TABLE)}
    parse_steps(tuple({name: notes.document[name]} for name in kinds), PLACE)
    check_complete(
        "steps.toml", notes.examples, {_place(notes, name, key) for name in kinds for key in keys(kinds[name])}
    )
    overview = table(("step", "what it does"), ((f"[{code(name)}](#{name})", notes.tables[name]) for name in kinds))
    sections = (part for name, kind in kinds.items() for part in _section(notes, name, kind))
    return page("Compression steps", f"the steps' structs and {PLACE}", ABOUT, overview, *sections)


def _place(notes: Annotated, step: str, key: Key) -> str:
    own = f"{step}.{key.name}"
    return own if own in notes.examples else f"{SHARED}.{key.name}"


def _section(notes: Annotated, name: str, kind: Kind) -> Iterator[str]:
    yield f"## {name}"
    yield " ".join((inspect.getdoc(inspect.getmodule(kind)) or "").split("\n\n")[0].split())
    yield table(HEAD, (_row(key, notes.examples[_place(notes, name, key)]) for key in keys(kind)))
    lines = [one.value for place, one in notes.examples.items() if place.startswith(f"{name}.")]
    yield fence("\n".join(["[[step]]", f"[step.{name}]", *lines]), "toml") if lines else ""


def _row(key: Key, example: Example) -> tuple[str, ...]:
    value = example.value.partition(" = ")[2]
    return (code(key.name), key.type, code(key.default), example.unit, example.words, code(value))
