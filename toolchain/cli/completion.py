"""Completion scripts for bash, zsh and fish, written from the commands' own signatures.

A script holds all commands, flags and choices itself: pressing the key starts no Python. The documented line in a
shell's start-up file writes it anew in every new shell, so that an upgrade needs nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from toolchain.cli.signature import Command, Commands, Parameter, command_from

PROGRAM = "toolchain"


@dataclass
class Place:
    """What may follow the words `title`: more words with their summaries, or what `command` takes. `image` has both."""

    title: str
    next_words: dict[str, str] = field(default_factory=dict)
    command: Command | None = None

    @property
    def flags(self) -> list[Parameter]:
        """Those that a completion offers: a required parameter that has a place is typed without its flag."""
        parameters = self.command.parameters if self.command else ()
        return [one for one in parameters if not one.many and not (one.required and one.positional)]

    @property
    def takes_files(self) -> bool:
        """Whether a word may be a path; a text may be one too (a bundle's folder or an image's tag)."""
        parameters = self.command.parameters if self.command else ()
        return any((one.positional or one.many) and one.kind in (Path, str) and not one.choices for one in parameters)

    @property
    def choices(self) -> list[str]:
        parameters = self.command.parameters if self.command else ()
        return [choice for one in parameters if one.required and one.positional for choice in one.choices]


def completion_script(commands: Commands, shell: str) -> str:
    """The script for `shell`: bash, zsh or fish."""
    return "\n".join(_SHELLS[shell](_read_places(commands))) + "\n"


def _read_places(commands: Commands) -> list[Place]:
    places = {"": Place("")}
    for path, function in _leaves(commands):
        command = command_from(function, tuple(path), PROGRAM)
        for depth, word in enumerate(path):
            before, title = " ".join(path[:depth]), " ".join(path[: depth + 1])
            place = places.setdefault(title, Place(title))
            if title == " ".join(path):
                place.command = command
            summary = command.summary if place.command else f"{word}: more commands"
            if place.command or word not in places[before].next_words:
                places[before].next_words[word] = summary
    return list(places.values())


def _leaves(commands: Commands) -> Iterator[tuple[list[str], Callable[..., object]]]:
    for words, entry in commands.items():
        inner = entry.items() if isinstance(entry, Mapping) else [("", entry)]
        for word, function in inner:
            yield f"{words} {word}".split(), function


def _value_words(flag: Parameter) -> str | None:
    """The words that its value may be; "" for any text, None for a path."""
    return None if flag.kind is Path else " ".join(flag.choices)


def _spelling(flag: Parameter) -> str:
    if flag.kind is bool:
        return flag.off if flag.default else flag.flag
    return f"{flag.flag}="


def _bash(places: list[Place]) -> Iterator[str]:
    yield f'# eval "$({PROGRAM} completion bash)" in ~/.bashrc'
    yield f"_{PROGRAM}() {{"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at='' next flag='' words='' i"
    yield "    local flags='' files=''"
    yield "    COMPREPLY=()"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield "        next=${at:+$at }${COMP_WORDS[i]}"
    yield f'        case "$next" in {_titles(places)}) at=$next ;; *) break ;; esac'
    yield "    done"
    # bash takes `--flag=value` apart into three words
    yield "    if [ \"$cur\" = = ]; then flag=$before cur=''"
    yield '    elif [ "$before" = = ]; then flag=${COMP_WORDS[COMP_CWORD - 2]}'
    yield '    elif [[ "$before" = --* ]]; then flag=$before; fi'
    yield '    case "$at $flag" in'
    for place, flag in _flags_with_value(places):
        words = _value_words(flag)
        set_ = "files=1" if words is None else f"words={quote(words)}"
        yield f"        {quote(f'{place.title} {flag.flag}')}) {set_} ;;"
    yield "        *) flag=''"
    yield '            case "$at" in'
    for place in places:
        words = quote(" ".join([*place.next_words, *place.choices]))
        flags = quote(" ".join(["--help", *map(_spelling, place.flags)]))
        files = "1" if place.takes_files else ""
        yield f"                {quote(place.title)}) words={words} flags={flags} files={files} ;;"
    yield "            esac ;;"
    yield "    esac"
    yield '    if [[ "$cur" = -* || -z "$words$files$flag" ]]; then words="$words $flags" files=\'\'; fi'
    yield '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")'
    yield '    if [ -n "$files" ]; then'
    yield "        compopt -o filenames"
    yield '        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$cur")'
    yield "    fi"
    yield '    if [[ "${COMPREPLY[0]}" = *= ]]; then compopt -o nospace; fi'
    yield "}"
    yield f"complete -F _{PROGRAM} {PROGRAM}"


def _zsh(places: list[Place]) -> Iterator[str]:
    yield f"#compdef {PROGRAM}"
    yield f'# eval "$({PROGRAM} completion zsh)" in ~/.zshrc, after compinit'
    yield f"_{PROGRAM}() {{"
    yield "    local at='' next flag='' i"
    yield "    local -a entries"
    yield "    for ((i = 2; i < CURRENT; i++)); do"
    yield "        next=${at:+$at }${words[i]}"
    yield f'        case "$next" in ({_titles(places)}) at=$next ;; (*) break ;; esac'
    yield "    done"
    yield '    if [[ "$PREFIX" == --*=* ]]; then flag=${PREFIX%%=*}; compset -P "*="'
    yield '    elif [[ "${words[CURRENT - 1]}" == --* ]]; then flag=${words[CURRENT - 1]}; fi'
    yield '    case "$at $flag" in'
    for place, flag in _flags_with_value(places):
        words = _value_words(flag)
        offer = "_files" if words is None else f"compadd -- {words}" if words else "_message value"
        yield f"        ({quote(f'{place.title} {flag.flag}')}) {offer}; return ;;"
    yield "    esac"
    yield '    if [[ "$PREFIX" == -* ]]; then'
    yield '        case "$at" in'
    for place in places:
        flags = " ".join(quote(f"{_spelling(flag)}:{flag.about}") for flag in place.flags)
        yield f"            ({quote(place.title)}) entries=({flags} {quote('--help:what it does')}) ;;"
    yield "        esac"
    yield "        _describe flag entries -S ''"
    yield "        return"
    yield "    fi"
    yield '    case "$at" in'
    for place in places:
        offered = {**place.next_words, **dict.fromkeys(place.choices, "")}
        entries = " ".join(quote(f"{word}:{about}".rstrip(":")) for word, about in offered.items())
        files = "; _files" if place.takes_files else ""
        yield f"        ({quote(place.title)}) entries=({entries}); _describe word entries{files} ;;"
    yield "    esac"
    yield "}"
    yield f"compdef _{PROGRAM} {PROGRAM}"


def _fish(places: list[Place]) -> Iterator[str]:
    yield f"# {PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish"
    yield f"function __{PROGRAM}_at"
    yield "    set -l at ''"
    yield "    set -l typed (commandline -opc)"
    yield "    for word in $typed[2..]"
    yield '        set -l next (string trim "$at $word")'
    yield f"        contains -- $next {' '.join(quote(place.title) for place in places if place.title)}; or break"
    yield "        set at $next"
    yield "    end"
    yield '    test "$at" = "$argv[1]"'
    yield "end"
    yield f"complete -c {PROGRAM} -f"
    for place in places:
        start = f"complete -c {PROGRAM} -n {quote(f'__{PROGRAM}_at {quote(place.title)}')}"
        for word, about in {**place.next_words, **dict.fromkeys(place.choices, "")}.items():
            yield f"{start} -a {word}" + (f" -d {_fish_quote(about)}" if about else "")
        for flag in place.flags:
            words = _value_words(flag)
            takes = "" if flag.kind is bool else " -r -F" if words is None else f" -x -a {quote(words)}"
            name = _spelling(flag).strip("-=")
            yield f"{start} -l {name}{takes} -d {_fish_quote(flag.about)}"
        yield f"{start} -l help -d 'what it does'"
        if place.takes_files:
            yield f"{start} -F"


def _titles(places: list[Place]) -> str:
    return "|".join(quote(place.title) for place in places if place.title)


def _flags_with_value(places: list[Place]) -> Iterator[tuple[Place, Parameter]]:
    """Every flag that takes a value."""
    return ((place, flag) for place in places for flag in place.flags if flag.kind is not bool)


def _fish_quote(text: str) -> str:
    """In single quotes fish knows two escapes, and no '"'"' as other shells do."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
