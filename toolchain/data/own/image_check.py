"""Decodes every image file once, before anything is built, and names all that cannot be decoded in one line.

What was decoded is remembered by the digest of its bytes, so that it is not decoded again, wherever it lies. Every
byte is read each time: about a second a gigabyte.
"""

import fcntl
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import PIL

from deploy.runtime.preprocessing import decode_and_fit
from toolchain.errors import DataError, RequestError
from toolchain.paths import home
from toolchain.progress import track
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Preprocessing

FOLDER = "decoded"  # below home()/data
HEADER = f"decoded images 1, Pillow {PIL.__version__}\n".encode()  # then their sha256, 32 bytes each
DIGEST_BYTES = 32
BATCH = 16  # files a thread takes at once
MAX_NAMED = 10
INCOMPLETE = re.compile(r"not a complete [^(]+ image \((.+)\)")  # the reason alone is enough in a list
logger = logging.getLogger(__name__)


class CheckedImage(NamedTuple):
    """sha256: of its bytes, empty where they cannot be read; reason: why it cannot be decoded."""

    path: Path
    sha256: bytes
    reason: str = ""


def check_images(paths: Sequence[Path], source: Path, preprocessing: Preprocessing) -> list[str]:
    """The sha256 of each file, as hex digits, all of them decoded now or earlier. DataError names those that cannot be
    decoded; the full list is in a file where it is long. source: where they are from, for messages."""
    record = home() / "data" / FOLDER / sha256(str(source.absolute()).encode()).hexdigest()[:16]
    with _locked(record):
        known = _read_digests(record)
        checked = list(track(_check_all(paths, known, preprocessing), f"checking {source.name}", len(paths)))
        _remember(record, {image.sha256 for image in checked if not image.reason}, known)
    if bad := [image for image in checked if image.reason]:
        raise DataError(_describe(bad, source, len(paths), record))
    return [image.sha256.hex() for image in checked]


def _check_all(paths: Sequence[Path], known: frozenset[bytes], preprocessing: Preprocessing) -> Iterator[CheckedImage]:
    """In the order of `paths`, on all cores that this process may use: decoders release the interpreter's lock."""

    def check_batch(batch: Sequence[Path]) -> list[CheckedImage]:
        return [_check(path, known, preprocessing) for path in batch]

    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield from chain.from_iterable(pool.map(check_batch, batches))
    finally:
        pool.shutdown(cancel_futures=True)


def _check(path: Path, known: frozenset[bytes], preprocessing: Preprocessing) -> CheckedImage:
    if not path.is_file():  # a pipe would never end
        return CheckedImage(path, b"", "not a file")
    try:
        content = path.read_bytes()
    except OSError as error:
        return CheckedImage(path, b"", f"cannot be read: {error.strerror}")
    digest = sha256(content).digest()
    try:
        if digest not in known:
            decode_and_fit(content, preprocessing)
    except RequestError as error:
        reason = str(error).partition(";")[0]
        inner = INCOMPLETE.fullmatch(reason)
        return CheckedImage(path, digest, inner[1] if inner else reason)
    return CheckedImage(path, digest)


def _describe(bad: Sequence[CheckedImage], source: Path, count: int, record: Path) -> str:
    folder = source if source.is_dir() else source.parent
    named = ", ".join(f"{_relative(image.path, folder)} ({image.reason})" for image in bad[:MAX_NAMED])
    if len(bad) > MAX_NAMED:
        listing = record.with_suffix(".bad.txt")
        write_atomically(listing, "".join(f"{image.path}\n" for image in bad).encode(errors="surrogateescape"))
        named += f" and {len(bad) - MAX_NAMED} more, all of them in {listing}"
    return f"{source}: {len(bad)} of {count} files cannot be decoded as images: {named}; replace or remove them"


def _relative(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _read_digests(record: Path) -> frozenset[bytes]:
    try:
        content = record.read_bytes()
    except OSError:
        return frozenset()
    if not content.startswith(HEADER):
        return frozenset()  # of another Pillow: decoded anew
    return frozenset(content[at : at + DIGEST_BYTES] for at in range(len(HEADER), len(content), DIGEST_BYTES))


def _remember(record: Path, digests: set[bytes], known: frozenset[bytes]) -> None:
    if digests == known:
        return
    try:
        write_atomically(record, HEADER + b"".join(sorted(digests)))
    except OSError as error:
        logger.info(f"{record}: not written ({error.strerror}); these images are decoded again by the next build")


@contextmanager
def _locked(record: Path) -> Iterator[None]:
    """Of the processes that torchrun starts, one decodes and the others read what it found."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        lock = record.with_suffix(".lock").open("w")
    except OSError:
        yield  # _remember says that nothing can be written there
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
