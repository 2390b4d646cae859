"""Ctrl-C that a library swallowed is not forgotten: it is raised again where long work looks next.

An interrupt falls into whatever runs, also into a library that catches everything (a failed optional import, a C++
callback), and the work would go on as if nobody had asked. Knows nothing of the work.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType

_heard = Event()


def check() -> None:
    """KeyboardInterrupt when one was asked for since listening() began."""
    if _heard.is_set():
        raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[None]:
    """Note interrupts while the block runs; outside the main thread, which alone may handle signals, do nothing."""
    if current_thread() is not main_thread():
        yield
        return
    _heard.clear()
    before = signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _heard.clear()


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    _heard.set()
    raise KeyboardInterrupt
