"""What long work shows on stderr: lines in a log, a bar on a terminal."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from toolchain.interrupts import check

if TYPE_CHECKING:
    from rich.console import Console

ItemT = TypeVar("ItemT")
EVERY_S, BAR_S = 10.0, 0.1
logger = logging.getLogger(__name__)


def silent() -> bool:
    """Of the processes that torchrun starts on a machine, the first one speaks."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


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


def track(items: Iterable[ItemT], what: str, total: int | None = None) -> Iterator[ItemT]:
    """Yield `items`, showing how many of `total` are done and the time that is left: a bar on a terminal, a line every
    ten seconds in a log, nothing where the packages' messages are not shown. KeyboardInterrupt between two items."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    shown = not silent() and logger.getEffectiveLevel() <= logging.INFO
    if not shown:
        return _check_between(items)
    return (_with_bar if sys.stderr.isatty() else _with_lines)(_check_between(items), what, total)


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
