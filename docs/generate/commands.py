"""The command line, from the signatures and docstrings of toolchain/cli."""

from collections.abc import Iterator, Mapping

from docs.generate.markdown import code, fence, page, table
from toolchain.cli import SECTIONS, renamed
from toolchain.cli.signature import Command, Commands, Parameter, command_from

PROGRAM = "toolchain"
ABOUT = """`.venv/bin/toolchain` until the environment is activated (`. .venv/bin/activate`). Every command has
`--help`. Results go to stdout, whose last line is one JSON document; progress goes to stderr. Exit statuses:
[Exit codes and errors](errors.md).

What is made is kept in `.toolchain/` (or `$TOOLCHAIN_HOME`); the ledger is a SQLite file there, or any PostgreSQL by
`TOOLCHAIN_LEDGER=postgresql://…`."""
KINDS: dict[type, str] = {str: "text", int: "whole number", float: "number", bool: "switch", tuple: "list, with commas"}
HEAD = ("argument", "type", "default", "meaning")


def commands_page() -> str:
    groups = {title: list(_commands(commands, ())) for title, commands in SECTIONS.items()}
    overview = [part for title, found in groups.items() for part in (f"## {title}", _overview(found))]
    details = [part for found in groups.values() for one in found for part in _section(one)]
    return page("Command line", "the signatures of toolchain/cli", ABOUT, *overview, *details, _old_spellings())


def _overview(found: list[Command]) -> str:
    return table(("command", "what it does"), ((f"[{code(one.title)}](#{_anchor(one)})", one.summary) for one in found))


def _old_spellings() -> str:
    rows = [(code(old), code(new)) for old, new in renamed.COMMANDS.items()]
    rows += [
        (code(f"{command} {old}"), code(f"{command} {new}"))
        for command, flags in renamed.FLAGS.items()
        for old, new in flags.items()
    ]
    about = "These still work in this release, with a line on stderr that gives the new one."
    return f"## Old spellings\n\n{about}\n\n{table(('old', 'new'), rows)}"


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
    nothing = parameter.default is None or parameter.default is False or parameter.default == ""
    default = parameter.default if isinstance(parameter.default, str | int | float) else ",".join(_words(parameter))
    shown = "**required**" if parameter.required else "" if nothing else code(str(default))
    return (code(parameter.shown), _kind(parameter), shown, parameter.about)


def _words(parameter: Parameter) -> list[str]:
    return (
        [str(word) for word in parameter.default] if isinstance(parameter.default, tuple) else [str(parameter.default)]
    )


def _kind(parameter: Parameter) -> str:
    if parameter.choices:
        several = ", with commas between them" if parameter.kind is tuple else ""
        return " or ".join(map(code, parameter.choices)) + several
    return KINDS.get(parameter.kind, parameter.kind.__name__.lower())
