"""What long work shows on stderr: lines in a log, a bar on a terminal."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from toolchain.errors import printable
from toolchain.interrupts import check

if TYPE_CHECKING:
    from rich.console import Console

ItemT = TypeVar("ItemT")
EVERY_S, BAR_S, NOTEBOOK_S = 10.0, 0.1, 0.5
BLOCKS = 24  # of a notebook's bar
PACKAGES = ("toolchain", "deploy", "benchmarks")
logger = logging.getLogger(__name__)


class ConsoleHandler(logging.Handler):
    """A message is a line: above the progress bar on a terminal; in a pipe plain text, flushed at once."""

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record))  # a server's words may be in it
        if sys.stderr.isatty():
            stderr().print(text)
        else:
            print(text, file=sys.stderr, flush=True)


def silent() -> bool:
    """Of the processes that torchrun starts on a machine, the first one speaks."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


@contextmanager
def attach_handler(handler: logging.Handler) -> Iterator[None]:
    """Hand the packages' messages to `handler`, beside those that get them already, while the block runs."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Withhold the messages of the loggers under `name`, warnings excepted, while the block runs."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook: its stderr is no terminal, and a line can be written over."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def track(items: Iterable[ItemT], what: str, total: int | None = None) -> Iterator[ItemT]:
    """Yield `items`, showing how many of `total` are done and the time that is left: a bar on a terminal and in a
    notebook, a line every ten seconds in a log, nothing where the packages' messages are not shown. KeyboardInterrupt
    between two items."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    shown = not silent() and logger.getEffectiveLevel() <= logging.INFO
    if not shown:
        return _check_between(items)
    show = _with_bar if sys.stderr.isatty() else _with_notebook_bar if is_notebook() else _with_lines
    return show(_check_between(items), what, total)


@cache
def stderr() -> "Console":
    """The terminal, as bars and messages share it: a message goes above the bar."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def _check_between(items: Iterable[ItemT]) -> Iterator[ItemT]:
    for item in items:
        check()
        yield item


def _with_lines(items: Iterable[ItemT], what: str, total: int) -> Iterator[ItemT]:
    shown = began = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= EVERY_S:
            shown = now
            left = (now - began) / done * (total - done) if total else 0.0
            print(f"  {what}: {done}/{total}, {left:.0f} s left", file=sys.stderr, flush=True)


def _with_notebook_bar(items: Iterable[ItemT], what: str, total: int) -> Iterator[ItemT]:
    """A line that is written over itself: a notebook shows none of a terminal's other controls."""
    drawn, width = time.monotonic(), 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - drawn >= NOTEBOOK_S:
            drawn, filled = now, BLOCKS * done // total if total else 0
            bar = f"{'█' * filled}{'░' * (BLOCKS - filled)} " if total else ""
            text = f"  {what}: {bar}{done}{f'/{total}' if total else ''}"
            width = max(width, len(text))
            print(f"\r{text:<{width}}", end="", file=sys.stderr, flush=True)
    if width:
        print(f"\r{'':<{width}}\r", end="", file=sys.stderr, flush=True)


def _with_bar(items: Iterable[ItemT], what: str, total: int) -> Iterator[ItemT]:
    """Drawn between two items and by no thread of its own: what is timed here may be an item."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns, console=stderr(), transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )
    with bar:
        task, drawn = bar.add_task(what, total=total or None), 0.0
        for item in items:
            yield item
            bar.advance(task)
            if (now := time.monotonic()) - drawn >= BAR_S:
                drawn = now
                bar.refresh()
