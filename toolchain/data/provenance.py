"""What was fetched and unpacked, beside it: which source it came from, and a digest for every file.

Knows nothing of what the files mean.

Format history
1  first (0.1.0)
"""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec

from toolchain.errors import DataError, RecordError
from toolchain.records.manifest import FileRecord
from toolchain.records.storage import digest_of, encode_record, read_record, write_atomically

FORMAT = 1
RECORD = "source.json"


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """archives: the digests of what was fetched; files: what was made of it."""

    name: str
    source: str
    archives: dict[str, str]
    files: tuple[FileRecord, ...]
    format: int = FORMAT

    @property
    def sha256(self) -> str:
        """Names the content, not the source: two sources of the same pixels give the same."""
        listed = "\n".join(f"{file.path} {file.sha256}" for file in self.files)
        return sha256(listed.encode()).hexdigest()


def write_provenance(folder: Path, name: str, source: str, archives: dict[str, str]) -> Provenance:
    """Record every file of `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = tuple(FileRecord(str(path.relative_to(folder)), digest_of(path), path.stat().st_size) for path in paths)
    kept = Provenance(name, source, archives, files)
    write_atomically(folder / RECORD, encode_record(kept))
    return kept


def has_provenance(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def verify_provenance(folder: Path, name: str) -> Provenance:
    """The record, each file's bytes compared with it; DataError names the file that is missing or changed."""
    again = f"fetch it again: toolchain data fetch {name}"
    try:
        kept = read_record(folder / RECORD, Provenance, FORMAT)
    except RecordError as error:
        raise DataError(f"{error}; {again}") from error
    with ThreadPoolExecutor(2) as pool:
        sound = list(pool.map(lambda file: _is_intact(folder, file), kept.files))
    for file, good in zip(kept.files, sound, strict=True):
        if not good:
            raise DataError(f"{folder / file.path}: missing, or changed since it was fetched; {again}")
    return kept


def _is_intact(folder: Path, file: FileRecord) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size_bytes and digest_of(path) == file.sha256
