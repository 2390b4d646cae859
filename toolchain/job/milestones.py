"""How far a command has come: its stages as n of m, each with the seconds that the one before it took.

A command that calls another's work counts all stages as its own: `deploy` those of `build` too.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass
class _Milestones:
    total: int
    reached: int = 0
    began: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)


_current: ContextVar[_Milestones | None] = ContextVar("milestones", default=None)


@contextmanager
def count_stages(total: int) -> Iterator[None]:
    """Number the stages that begin_stage() names in this block, unless the caller's block does so already."""
    if _current.get() is not None:
        yield
        return
    counted = _Milestones(total)
    token = _current.set(counted)
    try:
        yield
        logger.info(f"done: {counted.reached} of {total} stages, {time.monotonic() - counted.began:.1f} s")
    finally:
        _current.reset(token)


def begin_stage(title: str) -> None:
    """Nothing outside of such a block."""
    if (counted := _current.get()) is None:
        return
    now = time.monotonic()
    took = f" ({counted.reached} took {now - counted.since:.1f} s)" if counted.reached else ""
    counted.reached, counted.since = counted.reached + 1, now
    logger.info(f"[{counted.reached} of {counted.total}] {title}{took}")
