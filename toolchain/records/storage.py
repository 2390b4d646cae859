"""Records on disk: written completely or not at all, and read strictly.

Knows nothing of what a record means.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Protocol, TypeVar

import msgspec

from toolchain.errors import RecordError, UsageError


class Numbered(Protocol):
    """A record with a format number."""

    @property
    def format(self) -> int: ...


RecordT = TypeVar("RecordT", bound=Numbered)
# what msgspec raises for JSON that is none, is not UTF-8, or is nested without end
JSON_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def digest_of(path: Path) -> str:
    """sha256 of a file, as 64 hex digits."""
    running = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            running.update(block)
    return running.hexdigest()


def check_output_path(out: Path, flag: str = "--out") -> None:
    """UsageError, before long work, when its result could not be written to `out`."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"{flag}={out}: expected a file in an existing folder")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file next to `path` and rename it: a reader sees the old content or the new, never a mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """An empty file next to `path` that replaces it when the block succeeds, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder next to `folder` that replaces it when the block succeeds, and is removed otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    temporary.chmod(0o755)
    try:
        yield temporary
        if folder.exists():
            rmtree(folder)
        temporary.replace(folder)
    finally:
        rmtree(temporary, ignore_errors=True)


def encode_record(record: object) -> bytes:
    """A record as indented JSON with a final newline: the same record gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1) + b"\n"


def format_number(content: bytes, kind: str, place: str) -> int | None:
    """The format number of a record of `kind`, None when it has none. RecordError: no JSON object."""
    try:
        number = msgspec.json.decode(content, type=dict[str, object]).get("format")
    except JSON_ERRORS as error:
        raise RecordError(f"{place}: not a {kind} in JSON: {error}") from error
    return number if isinstance(number, int) else None


def decode_record(content: bytes, kind: type[RecordT], place: str, newest: int) -> RecordT:
    """Read a record; RecordError names `place` and the mismatch. newest: the highest format that is known here."""
    number = format_number(content, kind.__name__, place)
    if number is None or not 1 <= number <= newest:
        raise RecordError(
            f"{place}: {kind.__name__} format {number!r}; this toolchain reads 1 to {newest}; update the toolchain"
        )
    try:
        return msgspec.json.decode(content, type=kind)
    except JSON_ERRORS as error:
        raise RecordError(f"{place}: {error}") from error


def read_record(path: Path, kind: type[RecordT], newest: int) -> RecordT:
    """The record in `path`; RecordError as in decode_record, and when the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); expected a {kind.__name__} file") from error
    return decode_record(content, kind, str(path), newest)
