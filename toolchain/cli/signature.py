"""A verb of the command line as a value, read from its function: parameters, types, defaults, help.

Knows signatures and docstrings; knows nothing of argv (arguments.py does) nor of what any verb is for.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

Function = Callable[..., object]
Commands = Mapping[str, Function | Mapping[str, Function]]

# what stands for a value in usage and help
WORDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH", bool: ""}
WIDTH = 96


@dataclass(frozen=True)
class Parameter:
    """kind: str, int, float, bool or Path. many: takes all words that are left. about: its line of the docstring."""

    name: str
    kind: type
    required: bool
    default: object
    positional: bool
    many: bool
    about: str

    @property
    def flag(self) -> str:
        return f"--{self.name.rstrip('_').replace('_', '-')}"  # `for_`, as Python will not have `for`

    @property
    def shown(self) -> str:
        """How usage and messages call it."""
        return self.name.upper() if self.many or (self.required and self.positional) else self.flag

    @property
    def in_usage(self) -> str:
        if self.many:
            return f"[{self.shown}...]"
        if self.required:
            return self.shown if self.positional else f"{self.flag}={WORDS[self.kind]}"
        if self.kind is bool:
            return f"[{self.off if self.default else self.flag}]"
        return f"[{self.flag}={WORDS[self.kind]}]"

    @property
    def off(self) -> str:
        return f"--no-{self.flag[2:]}"


@dataclass(frozen=True)
class Command:
    """words: what is typed after the program's name."""

    program: str
    words: tuple[str, ...]
    function: Function
    parameters: tuple[Parameter, ...]
    summary: str
    story: str

    @property
    def title(self) -> str:
        return " ".join(self.words)

    @property
    def usage(self) -> str:
        return " ".join((self.program, *self.words, *(parameter.in_usage for parameter in self.parameters)))


def command_from(function: Function, words: tuple[str, ...], program: str) -> Command:
    """Read a verb's function. TypeError (the programmer's) for a parameter of a type that no command line can give."""
    summary, story, about = _docstring(inspect.getdoc(function) or "")
    signature = inspect.signature(function, eval_str=True)
    parameters = tuple(_parameter(one, about.get(one.name, ""), words) for one in signature.parameters.values())
    return Command(program, words, function, parameters, summary, story)


def _parameter(one: inspect.Parameter, about: str, words: tuple[str, ...]) -> Parameter:
    if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY, one.VAR_POSITIONAL):
        raise TypeError(f"{' '.join(words)}: {one} cannot be given by a command line")
    kind, many = _kind(one.annotation), one.kind is one.VAR_POSITIONAL
    if kind not in WORDS:
        raise TypeError(
            f"{' '.join(words)}: {one} has a type that no command line can give: {', '.join(map(str, WORDS))}"
        )
    default = None if one.default is one.empty else one.default
    required = one.default is one.empty and not many
    # a bare word never switches something on
    positional = one.kind is one.POSITIONAL_OR_KEYWORD and kind is not bool
    return Parameter(one.name, kind, required, default, positional, many, about)


def _kind(annotation: Any) -> Any:
    """`int | None` reads as int: None is what stands when the flag is not given."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else None
    return annotation


def _docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """First line, what follows it, and what `Args:` says of each parameter."""
    before, _, section = text.partition("\nArgs:\n")
    summary, _, story = before.partition("\n")
    about: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.match(r"\s{2,4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            about[name] = entry[2]
        elif name and line.strip():
            about[name] += f" {line.strip()}"
    return summary.strip(), story.strip(), about


def manual(command: Command) -> str:
    """Help for one verb: usage, what it does, each parameter with its default."""
    parts = ["\n".join(wrap(f"usage: {command.usage}", WIDTH, subsequent_indent="       ", break_on_hyphens=False))]
    parts += [text for text in (command.summary, command.story) if text]
    if command.parameters:
        rows = [(_left(parameter), _right(parameter)) for parameter in command.parameters]
        parts.append(_aligned(rows))
    return "\n\n".join(parts)


def _left(parameter: Parameter) -> str:
    if not parameter.shown.startswith("--"):
        return parameter.shown
    if parameter.kind is bool:
        return f"{parameter.flag}, {parameter.off}" if parameter.default else parameter.flag
    return f"{parameter.flag}={WORDS[parameter.kind]}"


def _right(parameter: Parameter) -> str:
    if parameter.default is None or parameter.default is False or parameter.default == "" or parameter.many:
        return parameter.about
    default = "on" if parameter.kind is bool else parameter.default
    return f"{parameter.about} (default: {default})".strip()


def overview(commands: Commands, program: str, words: tuple[str, ...] = (), about: str = "") -> str:
    """Every verb below `words`, one line each."""
    rows = []
    for word, entry in commands.items():
        for path, function in _leaves(entry, (word,)):
            rows.append((" ".join(path), _docstring(inspect.getdoc(function) or "")[0]))
    head = f"usage: {' '.join((program, *words))} COMMAND ..."
    tail = f"More on one: {' '.join((program, *words))} COMMAND --help"
    return "\n\n".join([head, *([about] if about else []), _aligned(rows), tail])


def _leaves(entry: Function | Mapping[str, Function], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Function]]:
    if isinstance(entry, Mapping):
        return [((*path, word), function) for word, function in entry.items()]
    return [(path, entry)]


def _aligned(rows: list[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows) + 4
    lines = []
    for left, right in rows:
        first, *more = wrap(right, max(WIDTH - width, 40)) or [""]
        lines.append(f"  {left:<{width - 2}}{first}".rstrip())
        lines += [" " * width + line for line in more]
    return "\n".join(lines)
