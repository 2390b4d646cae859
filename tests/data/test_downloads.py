"""Downloads from a real server: complete, interrupted, resumed, changed."""

from hashlib import md5, sha256
from pathlib import Path

import pytest

from tests.data.conftest import Server
from toolchain.data.downloads import Downloads, RemoteFile, download
from toolchain.errors import DataError

CONTENT = bytes(range(256)) * 5000


def offered(server: Server) -> RemoteFile:
    server.files["set.bin"] = CONTENT
    return RemoteFile(f"{server.url}/set.bin", f"sha256:{sha256(CONTENT).hexdigest()}")


def test_files_are_verified_and_not_requested_again(server: Server, tmp_path: Path) -> None:
    file = offered(server)
    by_md5 = RemoteFile(file.url, f"md5:{md5(CONTENT).hexdigest()}")
    assert Downloads((file,)).obtain(tmp_path) == {"set.bin": file.digest}
    assert Downloads((by_md5,)).obtain(tmp_path) == {"set.bin": by_md5.digest}
    assert (tmp_path / "set.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_an_interrupted_download_resumes_where_it_stopped(server: Server, tmp_path: Path) -> None:
    file = offered(server)
    server.cut = 400_000
    with pytest.raises(DataError, match=r"set.bin: the connection ended after 400000 of 1280000 bytes; the next"):
        download(file, tmp_path)
    assert not (tmp_path / "set.bin").exists()
    server.cut = None
    download(file, tmp_path)
    assert server.ranges == [None, "bytes=400000-"]
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_changed_bytes_are_named_and_removed(server: Server, tmp_path: Path) -> None:
    file = offered(server)
    server.files["set.bin"] = b"x" + CONTENT[1:]
    with pytest.raises(DataError, match=f"set.bin.part: corrupt, or changed .* expected {file.digest}"):
        download(file, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_partial_download_that_is_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    file = offered(server)
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DataError, match="HTTP 416"):
        download(file, tmp_path)
    download(file, tmp_path)
    assert (tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_missing_file_and_an_unreachable_host_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/nothing: HTTP 404 Not Found"):
        download(RemoteFile(f"{server.url}/nothing", "md5:0"), tmp_path)
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/x: Connection refused"):
        download(RemoteFile("http://127.0.0.1:9/x", "md5:0"), tmp_path)
