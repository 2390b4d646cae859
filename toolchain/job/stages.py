"""A stage's result is kept under the digest of what it depends on: inputs, options, code, tools.

Knows nothing of what a stage makes. A result is a folder, made whole or not at all; beside it, while the stage is
unfinished, lies a work folder that survives an interruption. Two builds at once wait for each other, stage by stage.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import msgspec

from toolchain.interrupts import check
from toolchain.records.storage import atomic_folder, digest_of, encode_record

logger = logging.getLogger(__name__)


RECORD = "record.json"
RecordT = TypeVar("RecordT")
ROOT = Path(__file__).parents[2]
Make = Callable[[Path, Path], None]


def code_digest(*rooms: str) -> str:
    """sha256 over the source of `rooms`: folders or files, relative to the project (`toolchain/export`)."""
    running = sha256()
    for room in sorted(rooms):
        path = ROOT / room
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            running.update(f"{file.relative_to(ROOT)} {digest_of(file)}\n".encode())
    return running.hexdigest()


def tool_versions(*packages: str) -> dict[str, str]:
    """The installed version of each package; '' for one that is not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def keep(folder: Path, record: object) -> None:
    """Leave a stage's record in its folder."""
    (folder / RECORD).write_bytes(encode_record(record))


def kept(folder: Path, kind: type[RecordT]) -> RecordT:
    """The record that a stage left in its folder."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=kind)


@dataclass(frozen=True)
class Stages:
    """The cache of stages below `folder`. Logs each stage that is made, and each that is kept."""

    folder: Path

    def made(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        """The folder of stage `name` for `inputs`; calls make(folder, work) when it is not there yet."""
        check()
        result = self.place(name, inputs)
        work, lock = (self.folder / f"{result.name}.{kind}" for kind in ("work", "lock"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(lock, lambda: logger.info(f"{title}: another build is at it, waiting")):
            if result.is_dir():
                logger.info(f"{title}: unchanged")
                return result
            logger.info(f"{title}: going on where it was interrupted" if work.is_dir() else f"{title} ...")
            self._sweep(result)
            work.mkdir(exist_ok=True)
            try:
                with atomic_folder(result) as folder:
                    make(folder, work)
            except BaseException:
                with suppress(OSError):  # not empty: what the next run goes on from
                    work.rmdir()
                raise
            rmtree(work, ignore_errors=True)
        return result

    def place(self, name: str, inputs: dict[str, Any]) -> Path:
        """Where the stage's folder is, or would be."""
        return self.folder / f"{name}-{sha256(encode_record({'stage': name, **inputs})).hexdigest()[:20]}"

    def _sweep(self, result: Path) -> None:
        """Remove what a killed build left half made; its lock is ours, so nobody is still at it."""
        for half in self.folder.glob(f".{result.name}.*"):
            rmtree(half)


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
