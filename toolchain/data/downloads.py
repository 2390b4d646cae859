"""Downloads over HTTP: resumed where they stopped, with progress, and verified before they get their final name.

Knows nothing of what is in a file.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from toolchain.errors import DataError
from toolchain.progress import track

logger = logging.getLogger(__name__)


TIMEOUT_S = 10.0  # short, because the mirror is tried next when the official server cannot be reached
BLOCK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """digest: `sha256:<hex>`, or `md5:<hex>` where the publisher offers nothing stronger."""

    url: str
    digest: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Downloads:
    """Files that their publisher serves by URL."""

    files: tuple[RemoteFile, ...]

    def obtain(self, folder: Path) -> dict[str, str]:
        for file in self.files:
            download(file, folder)
        return {file.name: file.digest for file in self.files}


def digest_matches(path: Path, digest: str) -> bool:
    return _digest(path, digest.partition(":")[0]) == digest


def check_digest(path: Path, digest: str) -> None:
    """Remove the file and raise DataError when its digest is not `digest`."""
    actual = _digest(path, digest.partition(":")[0])
    if actual != digest:
        path.unlink()
        raise DataError(f"{path.name}: corrupt, or changed at its source: its digest is {actual}, expected {digest}")


def download(file: RemoteFile, folder: Path) -> None:
    """Write `folder/<name>`, whole and verified; a partial download that is there already is resumed."""
    target, partial = folder / file.name, folder / f"{file.name}.part"
    if target.exists() and digest_matches(target, file.digest):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (partial.exists() and digest_matches(partial, file.digest)):
        _receive(file, partial)
    check_digest(partial, file.digest)
    partial.replace(target)


def _receive(file: RemoteFile, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=TIMEOUT_S) as reply:
            logger.info(f"  {file.url}" + (f", resumed at byte {have}" if reply.status == 206 else ""))
            _append(reply, partial, resumed=reply.status == 206)
    except HTTPError as error:
        if error.code == 416:  # the partial download is longer than the file, so it belongs to another one
            partial.unlink()
        raise DataError(f"{file.url}: HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)  # URLError wraps the cause
        raise DataError(f"{file.url}: {getattr(cause, 'strerror', None) or cause}") from error


def _append(reply: HTTPResponse, partial: Path, resumed: bool) -> None:
    length = int(reply.headers.get("Content-Length") or 0)
    before = partial.stat().st_size if resumed else 0
    with partial.open("ab" if resumed else "wb") as out:
        for block in track(_blocks(reply), f"{partial.stem}, MiB", -(-length // BLOCK)):
            out.write(block)
    received = partial.stat().st_size - before
    if received < length:
        raise DataError(
            f"{partial.stem}: the connection ended after {received} of {length} bytes; the next attempt resumes there"
        )


def _blocks(reply: HTTPResponse) -> Iterator[bytes]:
    while block := reply.read(BLOCK):
        yield block


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
