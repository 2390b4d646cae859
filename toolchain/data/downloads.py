"""Files over HTTP: resumed where they stopped, shown while they come, and checked before they get their name.

Knows nothing of what is in a file.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from toolchain.errors import DataError
from toolchain.progress import counted, say

TIMEOUT_S = 10.0  # short: where the official server cannot be reached, the mirror is next
BLOCK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """digest: `sha256:<hex>`, or `md5:<hex>` where the publisher gives no better."""

    url: str
    digest: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Downloads:
    """Files that their publisher offers by URL."""

    files: tuple[RemoteFile, ...]

    def obtain(self, folder: Path) -> dict[str, str]:
        for file in self.files:
            download(file, folder)
        return {file.name: file.digest for file in self.files}


def digest_matches(path: Path, digest: str) -> bool:
    return _digest(path, digest.partition(":")[0]) == digest


def check_digest(path: Path, digest: str) -> None:
    """DataError, and the file removed, when its bytes are not those of `digest`."""
    found = _digest(path, digest.partition(":")[0])
    if found != digest:
        path.unlink()
        raise DataError(
            f"{path.name}: corrupt, or changed where it came from: its digest is {found}, expected {digest}"
        )


def download(file: RemoteFile, folder: Path) -> None:
    """`folder/<name>`, whole and checked; a part of it that is there already is gone on with."""
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.exists() and digest_matches(target, file.digest):
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (part.exists() and digest_matches(part, file.digest)):
        _receive(file, part)
    check_digest(part, file.digest)
    part.replace(target)


def _receive(file: RemoteFile, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=TIMEOUT_S) as reply:
            say(f"  {file.url}" + (f", from byte {have} on" if reply.status == 206 else ""))
            _append(reply, part, resumed=reply.status == 206)
    except HTTPError as error:
        if error.code == 416:  # more bytes than the file has: the part is of something else
            part.unlink()
        raise DataError(f"{file.url}: HTTP {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)  # URLError wraps what happened
        raise DataError(f"{file.url}: {getattr(cause, 'strerror', None) or cause}") from error


def _append(reply: HTTPResponse, part: Path, resumed: bool) -> None:
    length = int(reply.headers.get("Content-Length") or 0)
    before = part.stat().st_size if resumed else 0
    with part.open("ab" if resumed else "wb") as out:
        for block in counted(_blocks(reply), f"{part.stem}, MiB", -(-length // BLOCK)):
            out.write(block)
    received = part.stat().st_size - before
    if received < length:
        raise DataError(
            f"{part.stem}: the connection ended after {received} of {length} bytes; again goes on from there"
        )


def _blocks(reply: HTTPResponse) -> Iterator[bytes]:
    while block := reply.read(BLOCK):
        yield block


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
