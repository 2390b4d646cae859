"""What long work shows on stderr: lines for a log, one line that is rewritten for a terminal."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from toolchain.interrupts import check

ItemT = TypeVar("ItemT")
EVERY_S = 10.0


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


def counted(items: Iterable[ItemT], what: str, total: int | None = None) -> Iterator[ItemT]:
    """Yield `items`, showing how many of `total` are done: in place on a terminal, every ten seconds in a log."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    if silent():
        yield from items
        return
    live, began = sys.stderr.isatty(), time.monotonic()
    shown, pause = began, 0.1 if live else EVERY_S
    for done, item in enumerate(items, 1):
        check()
        yield item
        now = time.monotonic()
        if now - shown >= pause:
            shown = now
            left = (now - began) / done * (total - done) if total else 0.0
            line = f"  {what}: {done}/{total}, {left:.0f} s left"
            print(f"\r\033[K{line}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
