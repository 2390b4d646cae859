"""Plain archives: read by every tar, and written in one way only."""

import io
import tarfile

import pytest

from deploy.docker.tar import BLOCK, PLAIN_BYTES, PLAIN_END, padding, plain_header, read_plain_header
from toolchain.errors import DockerError


def test_a_plain_archive_is_read_by_tar() -> None:
    archive = plain_header("blobs/sha256/x", 5) + b"hello" + bytes(padding(5)) + PLAIN_END
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        (entry,) = read
        assert (entry.name, entry.size, entry.mode, entry.isreg(), entry.mtime) == ("blobs/sha256/x", 5, 0o644, True, 0)
        assert read.extractfile(entry).read() == b"hello"  # type: ignore[union-attr]  # it is a file


@pytest.mark.parametrize(("name", "size"), [("a", 0), ("x" * 99, PLAIN_BYTES), ("stick.json", 4711)])
def test_a_plain_header_is_read_as_it_was_written(name: str, size: int) -> None:
    assert read_plain_header(plain_header(name, size)) == (name, size)


def test_a_file_that_no_plain_header_can_tell_of_is_refused_in_a_line() -> None:
    with pytest.raises(DockerError, match=r"^x has 8\.6 GB; an archive takes files of at most 8 GiB$"):
        plain_header("x", PLAIN_BYTES + 1)


def test_any_other_byte_makes_it_no_plain_header() -> None:
    header = plain_header("stick.json", 4711)
    for place in range(BLOCK):
        for other in (0, 1, 32, 48, 255):
            changed = header[:place] + bytes([other]) + header[place + 1 :]
            if changed != header:
                with pytest.raises(tarfile.TarError, match="is not a plain file"):
                    read_plain_header(changed)
    for short in (b"", header[:-1], header + b"\0", bytes(BLOCK)):
        with pytest.raises(tarfile.TarError):
            read_plain_header(short)
