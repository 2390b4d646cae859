"""What the packages log, for tests."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from toolchain.progress import attach_handler


class _Calls(logging.Handler):
    def __init__(self, call: Callable[[str], None]) -> None:
        super().__init__()
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call(record.getMessage())


@contextmanager
def calling(call: Callable[[str], None]) -> Iterator[None]:
    """Hand each message to `call`, which may raise: the exception comes out of the work that logged the message."""
    with attach_handler(_Calls(call)):
        yield
