"""What a command reports while it works: the messages of the package's loggers, on stderr.

The packages themselves are silent until a program configures logging; this is the command line's configuration.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from toolchain.progress import PACKAGES, ConsoleHandler, silent

SCAN_AFTER = 10_000  # objects more than were freed


def scan_seldom() -> None:
    """Importing torch makes half a million objects that stay; by default Python would scan them for garbage again and
    again meanwhile."""
    gc.set_threshold(SCAN_AFTER)


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
    # an installation for CPUs alone has no Triton, and no kernels of it whose operations could be counted
    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)
    handler = ConsoleHandler()
    handler.setFormatter(logging.Formatter(form))
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
