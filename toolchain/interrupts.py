"""Ctrl-C that a library swallowed is not forgotten: it is raised again where long work looks next.

An interrupt falls into whatever runs, also into a library that catches everything (a failed optional import, a C++
callback), and the work would go on as if nobody had asked. Knows nothing of the work.

Its handler runs on the thread's own stack, not on the alternate signal stack that Python asks for: OpenVINO's CPU
plugin (2026.4.1) exchanges that stack for one of its own, and two Cores that end out of turn leave the address of freed
memory there, on which Ctrl-C was a silent segmentation fault.
"""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType

_heard = Event()
_ON_ALTERNATE_STACK = 0x08000000  # SA_ONSTACK of Linux


class _SigAction(ctypes.Structure):
    """struct sigaction of the C library on 64-bit Linux (sigaction(2)), x86 and Arm alike."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


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
    before = signal.signal(signal.SIGINT, _handle_signal)
    _use_own_stack(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _heard.clear()


def _handle_signal(_signal: int, _frame: FrameType | None) -> None:
    _heard.set()
    raise KeyboardInterrupt


def _use_own_stack(number: int) -> None:
    library, action = ctypes.CDLL(None), _SigAction()
    library.sigaction(number, None, ctypes.byref(action))
    action.flags &= ~_ON_ALTERNATE_STACK
    library.sigaction(number, ctypes.byref(action), None)
