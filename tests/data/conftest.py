"""A home folder for every test, and an HTTP server that supports ranges as real ones do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@dataclass
class Server:
    """files: what it serves; cut: it disconnects after that many bytes; ranges: what each client requested."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *rest: object) -> None:
        self.offered = server
        super().__init__(*rest)  # type: ignore[arg-type]  # what the server passes

    def do_GET(self) -> None:
        content, wanted = self.offered.files.get(self.path[1:]), self.headers["Range"]
        self.offered.ranges.append(wanted)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.offered.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    offered = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, offered)) as real:
        offered.url = f"http://127.0.0.1:{real.server_port}"
        Thread(target=real.serve_forever, args=(0.01,)).start()
        yield offered
        real.shutdown()
