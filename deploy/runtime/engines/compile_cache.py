"""Caches what engines compile on a device, in a folder on a volume, for the next start; least recently used files go
first.

Each file begins with the sha256 of the rest, because engines run what they load as code. A folder that cannot be
written is no error: everything is then compiled again, and stderr says so once.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from toolchain.records.storage import write_atomically

MAX_FILES = 24


class CompileCache:
    """folder: created when first needed; None: nothing is cached."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read(self, name: str) -> bytes | None:
        """The content; None where the file is missing or damaged."""
        if self.folder is None:
            return None
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(self.folder / name)  # used now: not among the first to be removed
        digest, content = content[:32], content[32:]
        return content if sha256(content).digest() == digest else None

    def write(self, name: str, content: bytes) -> None:
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / name, sha256(content).digest() + content)
            self._prune()
        except OSError as error:
            self._warn(error)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """One process at a time; others wait until it is done or dead. No one waits where nothing can be cached."""
        try:
            if self.folder is None:
                raise FileNotFoundError
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / f"{name}.lock").open("w")
        except OSError as error:
            if self.folder is not None:
                self._warn(error)
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _prune(self) -> None:
        assert self.folder is not None
        files = [path for path in self.folder.iterdir() if path.is_file() and path.suffix != ".lock"]
        for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)[MAX_FILES:]:
            path.unlink(missing_ok=True)

    def _warn(self, error: OSError) -> None:
        print(f"nothing is cached in {self.folder} ({error.strerror}): it is compiled again next time", file=sys.stderr)
        self.folder = None
