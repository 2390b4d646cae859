"""A command as a value, read from its function: parameters, types, choices, defaults, help.

Knows signatures and docstrings; knows nothing of argv (parser.py does) nor of what any command is for.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

Function = Callable[..., object]
Commands = Mapping[str, Function | Mapping[str, Function]]
Sections = Mapping[str, Commands]  # by heading, as --help shows them

# what stands for a value in usage and help
WORDS = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH", bool: "", tuple: "TEXT"}
WIDTH, MOST = 96, 36  # columns; what is longer than MOST has its text below it


@dataclass(frozen=True)
class Parameter:
    """kind: str, int, float, bool, Path, or tuple for words with commas between them. choices: the only words that it
    takes; none: any. many: takes all words that are left. about: its line of the docstring."""

    name: str
    kind: type
    required: bool
    default: object
    positional: bool
    many: bool
    about: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return f"--{self.name.rstrip('_').replace('_', '-')}"  # `for_`, as Python will not have `for`

    @property
    def shown(self) -> str:
        """How usage and messages call it."""
        return self.name.upper() if self.many or (self.required and self.positional) else self.flag

    @property
    def value(self) -> str:
        """What stands for its value: `PATH`, `auto|official|mirror`, or `a|b[,...]` where several may be given."""
        return f"{'|'.join(self.choices) or WORDS[self.kind]}{'[,...]' if self.kind is tuple else ''}"

    @property
    def in_usage(self) -> str:
        if self.many:
            return f"[{self.shown}...]"
        if self.required:
            return self.shown if self.positional else f"{self.flag}={self.value}"
        if self.kind is bool:
            return f"[{self.off if self.default else self.flag}]"
        return f"[{self.flag}={self.value}]"

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
    """Read a command's function. TypeError (the programmer's) for a parameter whose type no command line can give."""
    summary, story, about = _docstring(inspect.getdoc(function) or "")
    signature = inspect.signature(function, eval_str=True)
    parameters = tuple(
        _parameter(parameter, about.get(parameter.name, ""), words) for parameter in signature.parameters.values()
    )
    return Command(program, words, function, parameters, summary, story)


def _parameter(parameter: inspect.Parameter, about: str, words: tuple[str, ...]) -> Parameter:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
        raise TypeError(f"{' '.join(words)}: {parameter} cannot be given by a command line")
    (kind, choices), many = _kind(parameter.annotation), parameter.kind is parameter.VAR_POSITIONAL
    if kind not in WORDS:
        raise TypeError(
            f"{' '.join(words)}: {parameter} has a type that no command line can give: {', '.join(map(str, WORDS))}"
        )
    default = None if parameter.default is parameter.empty else parameter.default
    required = parameter.default is parameter.empty and not many
    # a bare word never switches something on
    positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD and kind is not bool
    return Parameter(parameter.name, kind, required, default, positional, many, about, choices)


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type, and its choices where it is a Literal or a tuple of them. `int | None` reads as int: None is what
    stands when the flag is not given."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        kinds = [kind for kind in inner if kind is not NoneType]
        return _kind(kinds[0]) if len(kinds) == 1 else (None, ())
    if origin is Literal:
        return str, inner
    return (tuple, _kind(inner[0])[1]) if origin is tuple else (annotation, ())


def _docstring(text: str) -> tuple[str, str, dict[str, str]]:
    """The first sentence, what follows it, and what `Args:` says of each parameter."""
    before, _, section = text.partition("\nArgs:\n")
    paragraph, _, story = before.partition("\n\n")
    summary, _, more = re.sub(r"(?<=\.)\s+(?=[A-Z])", "\n", " ".join(paragraph.split())).partition("\n")
    story = "\n\n".join(filter(None, (more.replace("\n", " "), story.strip())))
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


def manual(command: Command, more: Sequence[str] = ()) -> str:
    """Help for one command: usage, what it does, each parameter with its default. more: commands that begin alike."""
    parts = ["\n".join(wrap(f"usage: {command.usage}", WIDTH, subsequent_indent="       ", break_on_hyphens=False))]
    parts += [text for text in (command.summary, command.story) if text]
    if command.parameters:
        rows = [(_usage_cell(parameter), _right(parameter)) for parameter in command.parameters]
        parts.append(_align_columns(rows))
    if more:
        parts.append(f"See also: {', '.join(f'{command.program} {title}' for title in more)}")
    return "\n\n".join(parts)


def _usage_cell(parameter: Parameter) -> str:
    if not parameter.shown.startswith("--"):
        return parameter.shown
    if parameter.kind is bool:
        return f"{parameter.flag}, {parameter.off}" if parameter.default else parameter.flag
    return f"{parameter.flag}={parameter.value}"


def _right(parameter: Parameter) -> str:
    if parameter.default is None or parameter.default is False or parameter.default == "" or parameter.many:
        return parameter.about
    default: object = "on" if parameter.kind is bool else parameter.default
    default = ",".join(default) if isinstance(default, tuple) else default
    return f"{parameter.about} (default: {default})".strip()


def overview(sections: Sections, program: str, words: tuple[str, ...] = (), about: str = "") -> str:
    """Every command below `words`, one line each, under the headings of their sections."""
    rows = {heading: list(_rows(commands)) for heading, commands in sections.items()}
    width = max(len(left) for row in rows.values() for left, _ in row)
    parts = [f"usage: {' '.join((program, *words))} COMMAND ...", about]
    parts += [f"{heading}\n{_align_columns(row, width)}".lstrip("\n") for heading, row in rows.items()]
    return "\n\n".join([*filter(None, parts), f"More on one: {' '.join((program, *words))} COMMAND --help"])


def _rows(commands: Commands) -> Iterator[tuple[str, str]]:
    for word, entry in commands.items():
        for path, function in _leaves(entry, (word,)):
            yield " ".join(path), _docstring(inspect.getdoc(function) or "")[0]


def _leaves(entry: Function | Mapping[str, Function], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Function]]:
    if isinstance(entry, Mapping):
        return [((*path, word), function) for word, function in entry.items()]
    return [(path, entry)]


def _align_columns(rows: list[tuple[str, str]], width: int = 0) -> str:
    width = max(width, *(len(left) for left, _ in rows if len(left) <= MOST), 0) + 4
    lines = []
    for left, right in rows:
        first, *more = [*([""] if len(left) > MOST else []), *wrap(right, max(WIDTH - width, 40))] or [""]
        lines.append(f"  {left:<{width - 2}}{first}".rstrip())
        lines += [" " * width + line for line in more]
    return "\n".join(lines)
