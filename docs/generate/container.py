"""The flags of the container's commands and the environment variables behind them, from its own argument parser."""

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.runtime.flags import make_parser
from docs.generate.markdown import code, page, sentence, table

ABOUT = """An image is started as `docker run IMAGE [COMMAND] [FLAGS]`; without a command it serves. Every flag can be
set by its environment variable, which is how containers are usually configured (`docker run -e QUEUE=128 …`); a
flag wins over its variable. `docker run --rm IMAGE COMMAND --help` prints the same.

Images with tracing also obey OpenTelemetry's own variables: see [Monitoring](../guides/monitoring.md#tracing)."""
VARIABLE = re.compile(r"\s*\(?\$(?P<name>[A-Z_]+)(?:, default [^)]*)?\)?")
HEAD = ("flag", "variable", "type", "default", "meaning")


def container_page() -> str:
    with _bare_environment():
        top = make_parser()
    (verbs,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    parts = [part for name, one in verbs.choices.items() for part in _section(name, one)]
    return page("Container flags and variables", "the container's argument parser", ABOUT, *parts)


@contextmanager
def _bare_environment() -> Iterator[None]:
    """Defaults come from the environment: here they must not."""
    before = dict(os.environ)
    os.environ.clear()
    try:
        yield
    finally:
        os.environ.update(before)


def _section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}"
    yield sentence(command.description or "")
    actions = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    yield table(HEAD, map(_row, actions))


def _row(action: argparse.Action) -> tuple[str, ...]:
    words = action.help or ""
    variable = VARIABLE.search(words)
    kind = getattr(action.type, "__name__", "").lower()
    default = "" if action.default in (None, "") else str(action.default)
    return (
        code(", ".join(action.option_strings) or action.dest),
        code(variable["name"]) if variable else "",
        {"str": "text", "int": "whole number", "float": "number"}.get(kind, kind),
        code(default),
        VARIABLE.sub("", words).removesuffix(f", {default}").strip(" ;,"),
    )
