"""Shows the messages and bars of long work where a person watches: on a terminal and in a notebook."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.interrupts import listening
from toolchain.progress import PACKAGES, ConsoleHandler, attach_handler, is_notebook, silent


@contextmanager
def show_progress() -> Iterator[None]:
    """Print the packages' messages on stderr while the block runs, where a person watches and the program has not
    configured logging itself; then its own handlers get them. Ctrl-C ends the block (toolchain/interrupts.py)."""
    with listening():
        if not _is_watched() or _is_configured():
            yield
            return
        with attach_handler(ConsoleHandler()):
            yield


def _is_watched() -> bool:
    return not silent() and (sys.stderr.isatty() or is_notebook())


def _is_configured() -> bool:
    """Whether the program, or a call further out, shows messages already."""
    loggers = map(logging.getLogger, PACKAGES)
    own = [handler for logger in loggers for handler in logger.handlers if not isinstance(handler, logging.NullHandler)]
    return bool(own or logging.getLogger().handlers)
