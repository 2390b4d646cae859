"""What a command reports while it works: the messages of the package's loggers, on stderr.

The packages themselves are silent until a program configures logging; this is the command line's configuration.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.errors import printable
from toolchain.progress import silent, stderr

PACKAGES = ("toolchain", "deploy", "benchmarks")


class ConsoleHandler(logging.Handler):
    """A message is a line: above the progress bar on a terminal; in a pipe plain text, flushed at once."""

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record))  # a server's words may be in it
        if sys.stderr.isatty():
            stderr().print(text)
        else:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def console() -> Iterator[None]:
    """log_to_stderr() while the block runs."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(logger.handlers, logger.level) for logger in loggers]
    log_to_stderr()
    try:
        yield
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)


def log_to_stderr(form: str = "%(message)s") -> None:
    """Print the packages' messages; of the processes that torchrun starts on a machine, only those of the first."""
    if silent():
        return
    handler = ConsoleHandler()
    handler.setFormatter(logging.Formatter(form))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
