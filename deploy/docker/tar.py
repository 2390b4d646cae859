"""Reads and writes tar archives: small files, the form in which an engine exchanges them, and plain archives.

A plain archive holds plain files only, each behind the one header that its name and its size give: no links, folders,
devices, extended headers or sparse files, nothing that two readers could read in two ways.
"""

import io
import re
import tarfile

from toolchain.errors import DockerError

BLOCK = 512
PLAIN_END = bytes(2 * BLOCK)
PLAIN_BYTES = (8 << 30) - 1  # what a plain header can say
NAME = re.compile(rb"[A-Za-z0-9_./-]{1,99}\0+")
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
    """The header of a plain file (POSIX.1-1988), readable by all, dated at the epoch; the content and padding(size)
    follow. DockerError: the file is too large for it."""
    if size > PLAIN_BYTES:
        raise DockerError(f"{name[:80]} has {size / 1e9:.1f} GB; an archive takes files of at most 8 GiB")
    front = (
        name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + b"%011o\0" % size + b"0" * 11 + b"\0"
    )
    back = b"0" + bytes(100) + b"ustar\x0000" + bytes(BLOCK - 265)
    return front + b"%06o\0 " % sum(front + b" " * 8 + back) + back


def padding(size: int) -> int:
    """Zeros behind a content of `size` bytes."""
    return -size % BLOCK


def read_plain_header(block: bytes) -> tuple[str, int]:
    """(name, size in bytes). TarError: anything else than plain_header() writes."""
    if len(block) == BLOCK and NAME.fullmatch(block[:100]) and OCTAL.fullmatch(block[124:136]):
        name, size = block[:100].rstrip(b"\0").decode(), int(block[124:135], 8)
        if block == plain_header(name, size):
            return name, size
    raise tarfile.TarError(f"{block[:100].rstrip(bytes(1))[:80].decode(errors='replace')!r} is not a plain file")
