"""Small files in and out of tar archives, which is how an engine takes and gives them."""

import io
import tarfile


def content_of(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """b"" for what is no file. KeyError: there is none of that name."""
    file = archive.extractfile(member)
    return file.read() if file else b""


def add_content(archive: tarfile.TarFile, name: str, content: bytes, owner: int = 0) -> None:
    """A file of that owner and group, readable by all, as old as the epoch."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.uid, entry.gid = len(content), owner, owner
    archive.addfile(entry, io.BytesIO(content))
