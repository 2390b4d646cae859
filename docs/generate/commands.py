"""The command line, from the signatures and docstrings of toolchain/cli."""

from collections.abc import Iterator, Mapping

from docs.generate.markdown import code, fence, page, table
from toolchain.cli import COMMANDS
from toolchain.cli.signature import Command, Commands, Parameter, command_from

PROGRAM = "toolchain"
ABOUT = """`.venv/bin/toolchain` until the environment is activated (`. .venv/bin/activate`). Every command has
`--help`. Results go to stdout, whose last line is one JSON document; progress goes to stderr. Exit statuses:
[Exit codes and errors](errors.md).

What is made is kept in `.toolchain/` (or `$TOOLCHAIN_HOME`); the ledger is a SQLite file there, or any PostgreSQL by
`TOOLCHAIN_LEDGER=postgresql://…`."""
HEAD = ("argument", "type", "default", "meaning")


def commands_page() -> str:
    found = list(_commands(COMMANDS, ()))
    overview = table(
        ("command", "what it does"), ((f"[{code(one.title)}](#{_anchor(one)})", one.summary) for one in found)
    )
    return page(
        "Command line",
        "the signatures of toolchain/cli",
        ABOUT,
        overview,
        *(part for one in found for part in _section(one)),
    )


def _commands(group: Commands, words: tuple[str, ...]) -> Iterator[Command]:
    for word, entry in group.items():
        if isinstance(entry, Mapping):
            yield from _commands(entry, (*words, word))
        else:
            yield command_from(entry, (*words, *word.split()), PROGRAM)


def _anchor(command: Command) -> str:
    return "-".join((PROGRAM, *command.words))


def _section(command: Command) -> Iterator[str]:
    yield f"## {PROGRAM} {command.title}"
    yield command.summary
    yield command.story
    yield fence(command.usage)
    if command.parameters:
        yield table(HEAD, map(_row, command.parameters))


def _row(parameter: Parameter) -> tuple[str, ...]:
    kind = "switch" if parameter.kind is bool else parameter.kind.__name__.lower()
    nothing = parameter.default is None or parameter.default is False or parameter.default == ""
    default = "**required**" if parameter.required else "" if nothing else code(str(parameter.default))
    return (
        code(parameter.shown),
        {"str": "text", "int": "whole number", "float": "number"}.get(kind, kind),
        default,
        parameter.about,
    )
