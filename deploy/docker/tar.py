"""Reads and writes tar archives: small files, the form in which an engine exchanges them, and plain archives.

A plain archive holds plain files only, each behind one header in the oldest form of the format, which every reader
reads alike: no links, folders, devices, extended headers or sparse files.
"""

import io
import re
import tarfile

BLOCK = 512
END_BYTES = 20 * BLOCK  # zeros that end an archive, at most
PLAIN_BYTES = (8 << 30) - 1  # what a plain header can say
MAGIC = b"ustar\x0000"
OCTAL = re.compile(rb"[0-7]{11}\0")


def read_member(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """The content of a member; b"" for anything but a file. KeyError: no such member."""
    file = archive.extractfile(member)
    return file.read() if file else b""


def add_member(archive: tarfile.TarFile, name: str, content: bytes, owner: int = 0) -> None:
    """Add a file with `owner` as user and group id, readable by all, dated at the epoch."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.uid, entry.gid = len(content), owner, owner
    archive.addfile(entry, io.BytesIO(content))


def plain_header(name: str, size: int) -> bytes:
    """The header of a plain file; the content and padding(size) follow."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padding(size: int) -> int:
    """Zeros behind a content of `size` bytes."""
    return -size % BLOCK


def read_plain_header(block: bytes) -> tuple[str, int]:
    """(name, size in bytes). TarError: no header, or not one of a plain file."""
    entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    plain = block[156:157] == tarfile.REGTYPE and block[257:265] == MAGIC and bool(OCTAL.fullmatch(block[124:136]))
    if not plain or any(block[157:257]) or any(block[345:]):
        raise tarfile.TarError(f"{entry.name[:80]!r} is not a plain file")
    return entry.name, entry.size


def is_plain_end(rest: bytes) -> bool:
    """Whether nothing but the end of an archive is in `rest`, which is read up to END_BYTES + 1."""
    return not any(rest) and 2 * BLOCK <= len(rest) <= END_BYTES
