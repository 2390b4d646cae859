"""Keeps libtiff quiet: left to itself it writes a line to stderr for every broken file, between the lines of the log.

Pillow turns only its warnings off, and has no way to reach the handler of errors.
"""

import ctypes
from functools import cache
from pathlib import Path


@cache
def silence_libtiff() -> None:
    """For this process, once; Pillow must have been imported."""
    for path in {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libtiff" in line}:
        library = ctypes.CDLL(path)  # the one that is loaded already
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
