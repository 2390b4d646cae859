"""A record next to a fetched data set: which source it came from, and a digest of every file.

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
    """archives: the digests of the fetched archives, by name; files: what was unpacked from them."""

    name: str
    source: str
    archives: dict[str, str]
    files: tuple[FileRecord, ...]
    format: int = FORMAT

    @property
    def sha256(self) -> str:
        """Identifies the content, not the source: two sources of the same pixels have the same digest."""
        listed = "\n".join(f"{file.path} {file.sha256}" for file in self.files)
        return sha256(listed.encode()).hexdigest()


def write_provenance(folder: Path, name: str, source: str, archives: dict[str, str]) -> Provenance:
    """Record every file of `folder`, in the folder itself."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = tuple(FileRecord(str(path.relative_to(folder)), digest_of(path), path.stat().st_size) for path in paths)
    provenance = Provenance(name, source, archives, files)
    write_atomically(folder / RECORD, encode_record(provenance))
    return provenance


def has_provenance(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def verify_provenance(folder: Path, name: str) -> Provenance:
    """The record of `folder`, after comparing every file with it; DataError names a file that is missing or changed."""
    retry = f"fetch it again: toolchain data fetch {name}"
    try:
        provenance = read_record(folder / RECORD, Provenance, FORMAT)
    except RecordError as error:
        raise DataError(f"{error}; {retry}") from error
    with ThreadPoolExecutor(2) as pool:
        intact = list(pool.map(lambda file: _is_intact(folder, file), provenance.files))
    for file, is_intact in zip(provenance.files, intact, strict=True):
        if not is_intact:
            raise DataError(f"{folder / file.path}: missing, or changed since it was fetched; {retry}")
    return provenance


def _is_intact(folder: Path, file: FileRecord) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size_bytes and digest_of(path) == file.sha256
