"""Reads and writes small files in tar archives, the form in which an engine exchanges files."""

import io
import tarfile


def read_member(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """The content of a member; b"" for anything but a file. KeyError: no such member."""
    file = archive.extractfile(member)
    return file.read() if file else b""


def add_member(archive: tarfile.TarFile, name: str, content: bytes, owner: int = 0) -> None:
    """Add a file with `owner` as user and group id, readable by all, dated at the epoch."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.uid, entry.gid = len(content), owner, owner
    archive.addfile(entry, io.BytesIO(content))
