"""What the packages log, for tests."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PACKAGES = ("toolchain", "deploy")


class _Calls(logging.Handler):
    def __init__(self, call: Callable[[str], None]) -> None:
        super().__init__()
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call(record.getMessage())


@contextmanager
def calling(call: Callable[[str], None]) -> Iterator[None]:
    """Hand each message to `call`, which may raise: the exception comes out of the work that logged the message."""
    handler, loggers = _Calls(call), [logging.getLogger(name) for name in PACKAGES]
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
