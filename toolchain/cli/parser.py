"""Reads argv strictly, then lets python-fire run the command.

Fire 0.7.1 runs a command before it complains of a misspelt flag, and reads text as Python (`--version=1.10` is 1.1,
`12e4567` infinity, `--dry_run=false` a true string). So one walk over argv against the command's signature comes
first: what it does not know is refused before anything runs, and what Fire gets is quoted by type.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from math import isfinite
from pathlib import Path

from toolchain import __version__
from toolchain.cli.console import console
from toolchain.cli.signature import Command, Commands, Function, Parameter, Sections, command_from, manual, overview
from toolchain.errors import ToolchainError, UsageError, printable
from toolchain.failures import CURES, describe_fault, is_debugging
from toolchain.interrupts import listening

ABOUT = "Trained PyTorch image classifier in, certified container on an edge server out."
HELP = ("-h", "--help")
INTERRUPTED, BROKEN_PIPE = 130, 141


@dataclass(frozen=True)
class Call:
    """A command with the values it was given; `rest` goes to its `*names`."""

    command: Command
    values: Mapping[str, object]
    rest: tuple[object, ...] = ()


@dataclass
class _Walk:
    """How far the walk over one command's words has come."""

    command: Command
    left: list[str]
    values: dict[str, object] = field(default_factory=dict)
    rest: list[object] = field(default_factory=list)


def run(commands: Commands, argv: Sequence[str], name: str = "toolchain", sections: Sections | None = None) -> int:
    """Run the command in `argv` (without the program's name); the exit status. Errors are one line on stderr.

    sections: the headings of --help."""
    try:
        answer = read(commands, argv, name, sections)
        if isinstance(answer, str):
            print(answer)
        else:
            with console(), listening():
                _fire(answer)
        sys.stdout.flush()
    except ToolchainError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader went away (`| head`); nothing may be written to this stdout any more, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno in CURES:
            place = f"{error.filename}: " if error.filename else ""
            print(f"{name}: {place}{error.strerror}; {CURES[error.errno]}", file=sys.stderr)
            return 1
        if is_debugging():
            raise
        print(f"{name}: {describe_fault(error)}", file=sys.stderr)
        return 1
    return 0


def read(
    commands: Commands, argv: Sequence[str], name: str = "toolchain", sections: Sections | None = None
) -> Call | str:
    """The call that `argv` requests, or the text of --help and --version. UsageError; runs nothing."""
    words: tuple[str, ...] = ()
    left = list(argv)
    group: Commands = commands
    while True:
        if not left or left[0] in HELP:
            return overview((not words and sections) or {"": group}, name, words, "" if words else ABOUT)
        if left == ["--version"] and not words:
            return f"{name} {__version__}"
        count = 2 if " ".join(left[:2]) in group else 1  # a command may have two words: `gate selftest`, next to `gate`
        word, left = " ".join(left[:count]), left[count:]
        if word not in group:
            raise UsageError(_unknown_command(group, word, " ".join((name, *words))))
        entry, words = group[word], (*words, word)
        if not isinstance(entry, Mapping):
            break
        group = entry
    command = command_from(entry, words, name)
    before = left[: left.index("--")] if "--" in left else left
    if any(word in HELP for word in before):
        return manual(command, [title for title in group if title.startswith(f"{command.words[-1]} ")])
    return _parse_arguments(command, left)


def _unknown_command(group: Commands, word: str, prefix: str) -> str:
    what = "flag" if word.startswith("-") else "command"
    return f"no {what} '{word}'{_suggestion(word, group)}; {prefix} has: {', '.join(group)}"


def _suggestion(word: str, known: Sequence[str] | Commands) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _parse_arguments(command: Command, left: list[str]) -> Call:
    walk = _Walk(command, left)
    while walk.left:
        word = walk.left.pop(0)
        if word == "--":
            while walk.left:
                _take_word(walk, walk.left.pop(0))
        elif _is_flag(word):
            _take_flag(walk, word)
        else:
            _take_word(walk, word)
    missing = [
        parameter.shown for parameter in command.parameters if parameter.required and parameter.name not in walk.values
    ]
    if missing:
        raise UsageError(f"{command.title}: {' and '.join(missing)} missing; usage: {command.usage}")
    return Call(command, walk.values, tuple(walk.rest))


def _is_flag(word: str) -> bool:
    """`-` alone and negative numbers are values."""
    return word.startswith("-") and word != "-" and not re.fullmatch(r"-\.?\d.*", word)


def _take_word(walk: _Walk, word: str) -> None:
    for parameter in walk.command.parameters:
        if parameter.many:
            walk.rest.append(_value(parameter, word))
            return
        if parameter.positional and parameter.name not in walk.values:
            walk.values[parameter.name] = _value(parameter, word)
            return
    raise UsageError(f"{walk.command.title}: '{word}' is one word too many; usage: {walk.command.usage}")


def _take_flag(walk: _Walk, word: str) -> None:
    key, equals, text = word.partition("=")
    parameter, negated = _find_flag(walk.command, key)
    if parameter.name in walk.values:
        raise UsageError(f"{parameter.flag}: given twice; give it once")
    if parameter.kind is bool:
        if negated and equals:
            raise UsageError(f"{key}: takes no value; write {parameter.flag}={text} or {key} alone")
        walk.values[parameter.name] = _value(parameter, text) if equals else not negated
        return
    if not equals:
        if not walk.left or _is_flag(walk.left[0]):
            raise UsageError(f"{parameter.flag}: expected a value after it; usage: {walk.command.usage}")
        text = walk.left.pop(0)
    walk.values[parameter.name] = _value(parameter, text)


def _find_flag(command: Command, key: str) -> tuple[Parameter, bool]:
    """The parameter that `--key` names, and whether it is named by its negation (--no-x, --nox)."""
    flags = {parameter.flag: (parameter, False) for parameter in command.parameters if not parameter.many}
    switches = [parameter for parameter in command.parameters if parameter.kind is bool]
    negations = {f"--no{dash}{switch.flag[2:]}": (switch, True) for switch in switches for dash in ("-", "")}
    flag = key.replace("_", "-")
    if flag in flags:
        return flags[flag]
    if flag in negations:
        return negations[flag]
    has = f"it has: {', '.join(flags)}" if flags else "it has none"
    raise UsageError(f"{command.title}: no flag '{key}'{_suggestion(flag, [*flags, *negations])}; {has}")


def _value(parameter: Parameter, text: str) -> object:
    """`text` as the parameter's type; UsageError names the flag, what was expected and what was found."""
    expected = f"{parameter.shown}: expected"
    if parameter.kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{expected} true or false, got '{text}'")
        return text.lower() == "true"
    if parameter.kind is int:
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise UsageError(f"{expected} a whole number, got '{text}'")
        return int(text)
    if parameter.kind is float:
        return _number(text, expected)
    if "\0" in text or (parameter.kind is Path and not text):
        raise UsageError(f"{expected} a {'path' if parameter.kind is Path else 'text'}, got {text!r}")
    if parameter.kind is tuple:
        return tuple(_choice(parameter, word) for word in text.split(",") if word)
    return Path(text) if parameter.kind is Path else _choice(parameter, text)


def _choice(parameter: Parameter, text: str) -> str:
    *others, last = parameter.choices or ("",)
    if parameter.choices and text not in parameter.choices:
        expected = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"{parameter.shown}: expected {expected}, got '{text}'{_suggestion(text, parameter.choices)}")
    return text


def _number(text: str, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{expected} a number, got '{text}'") from None
    if not isfinite(number):
        raise UsageError(f"{expected} a finite number, got '{text}'")
    return number


def _fire(call: Call) -> None:
    import fire

    *groups, verb = call.command.words
    tree: dict[str, object] = {verb: _with_paths(call.command)}
    for group in reversed(groups):
        tree = {group: tree}
    fire.Fire(tree, command=_fire_arguments(call), name=call.command.program)


def _fire_arguments(call: Call) -> list[str]:
    """argv for Fire: every value a Python literal under its own name, so that Fire has nothing to guess."""
    values = dict(call.values)
    if call.rest:
        # Fire would fill parameters that were left out with the words of *names
        positional = [parameter for parameter in call.command.parameters if not parameter.many]
        values = {parameter.name: parameter.default for parameter in positional} | values
    flags = [f"--{name}={_literal(value)}" for name, value in values.items()]
    return [*call.command.words, *flags, *(_literal(value) for value in call.rest)]


def _literal(value: object) -> str:
    return repr(str(value)) if isinstance(value, Path) else repr(value)


def _with_paths(command: Command) -> Function:
    """The command's function, taking text where it asks for a Path: Fire hands on literals only."""
    paths = {parameter.name for parameter in command.parameters if parameter.kind is Path}
    # what Fire hands on by place: words after these are *names, though a parameter that only a flag gives comes between
    placed = [
        parameter
        for parameter in signature(command.function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    named = [parameter.name for parameter in placed]
    many = next((parameter.name for parameter in command.parameters if parameter.many), "")

    def as_asked(name: str, value: object) -> object:
        return Path(value) if name in paths and isinstance(value, str) else value

    @wraps(command.function)
    def function(*words: object, **flags: object) -> object:
        names = [*named[: len(words)], *[many] * (len(words) - len(named))]
        values = (as_asked(name, word) for name, word in zip(names, words, strict=True))
        return command.function(*values, **{name: as_asked(name, value) for name, value in flags.items()})

    return function
