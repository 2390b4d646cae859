"""Reloads values derived from files (certificates, tokens) when the files change; no restart needed.

While the new files are unusable the old value stays in use, and the log says so. Knows nothing of the values.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from deploy.runtime.logs import Log
from toolchain.errors import ToolchainError, UsageError

T = TypeVar("T")
DAY_S = 24 * 3600.0
FileStamps = tuple[tuple[int, int, int], ...]


class Reloadable(Generic[T]):
    """value: the newest that could be made. warnings: settings that work but are unwise, logged when the value is made
    and once a day, since a certificate expires by itself."""

    def __init__(
        self,
        what: str,
        files: tuple[Path, ...],
        make: Callable[[], T],
        log: Log,
        warnings: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._files, self._make, self._log, self._warnings = what, files, make, log, warnings
        self._stamp, self._clock = file_stamps(files), clock
        self.value = make()
        self._warn(warnings())

    def poll(self) -> None:
        """Make the value again if a file has changed."""
        found = file_stamps(self._files)
        if found == self._stamp and self._clock() < self._next_warning:
            return
        is_new = found != self._stamp
        self._stamp = found  # taken before the files are read: a later change is seen at the next poll
        try:
            made, told = (self._make() if is_new else self.value), self._warnings()
        except ToolchainError as error:
            self._log.write("error", "not renewed", what=self._what, reason=f"{error}; the old one stays in use")
            return
        self.value = made
        if is_new:
            self._log.write("info", "renewed", what=self._what)
        self._warn(told)

    def _warn(self, told: list[str]) -> None:
        self._next_warning = self._clock() + DAY_S
        for text in told:
            self._log.write("warning", "unwise", what=self._what, text=text)


def file_stamps(files: tuple[Path, ...]) -> FileStamps:
    """Values that change when a file does, or when another takes its place (Kubernetes secrets are links); zeros: no
    file."""
    return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_file(flag: str, file: Path) -> str:
    """The file's text; UsageError names the flag that gave the file."""
    try:
        return file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UsageError(
            f"{flag} {file}: cannot be read ({error.strerror}); mount it, readable by user 10001 in the container"
        ) from error


def readability_warnings(flag: str, file: Path) -> list[str]:
    """A warning when everyone on the machine can read a secret."""
    try:
        is_open = file.stat().st_mode & 0o004
    except OSError:
        return []
    return [f"{flag} {file}: every user of this machine can read it; chmod o-r {file}"] if is_open else []
