"""A real server process for tests, on a free port, and a plain socket to talk to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CAT = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192}
INFER = "/v2/models/null/infer"
PATIENCE_S = 120.0  # for what comes at once on a machine that does nothing else


def command(*arguments: object, program: Sequence[str] = ("-m", "deploy.runtime")) -> list[str]:
    return [sys.executable, *program, *map(str, arguments)]


@dataclass
class Running:
    """A server, and the log lines that it has written so far."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def read_log(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith("{") else {"event": "plain", "text": line})

    def wait_for(self, *events: str) -> dict[str, Any]:
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            for line in tuple(self.lines):
                if line["event"] in events:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no {events} in {self.lines}")

    def wait_for_text(self, words: str) -> None:
        """Until a line of the log has these words: it may come after the server is ready."""
        limit = time.monotonic() + PATIENCE_S
        while not any(words in line.get("text", "") for line in tuple(self.lines)):
            assert time.monotonic() < limit, f"no '{words}' in {self.lines}"
            time.sleep(0.01)

    def connect(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(request(method, path, body, **headers))
            return answer(connection)

    def wait_for_depth(self, count: int, ask: Callable[[], str] | None = None) -> None:
        """Until the engine has, or is about to get, so many requests. ask: /metrics, where not everybody may."""
        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            text = ask() if ask else self.ask("GET", "/metrics")[2].decode()
            if f"edge_queue_depth {count}" in text:
                return
            time.sleep(0.01)
        raise AssertionError(f"never {count} requests at once")

    def infer(self, *tensors: dict[str, Any], **members: Any) -> tuple[int, dict[str, Any]]:
        status, _, body = self.ask("POST", INFER, json.dumps({"inputs": list(tensors), **members}).encode())
        return status, json.loads(body)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Host": "test", "Content-Length": str(len(body)), **named}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def answer(connection: socket.socket, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case and body of the next reply; reads no byte beyond it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"closed after {head!r}"
        head += byte
    first, *rest = head.decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    body = b""
    while not head_only and len(body) < int(headers.get("content-length", 0)):
        block = connection.recv(int(headers["content-length"]) - len(body))
        assert block, "closed within a body"
        body += block
    return int(first.split()[1]), headers, body


@contextmanager
def serving(
    bundle: Path,
    *flags: object,
    until: str = "ready",
    program: Sequence[str] = ("-m", "deploy.runtime"),
    **environment: str,
) -> Iterator[Running]:
    """A server of `bundle`, ready; ended with the block. Certified only where a test asks for it: it takes seconds."""
    process = subprocess.Popen(
        command("serve", "--bundle", bundle, "--port", 0, "--host", "127.0.0.1", *flags, program=program),
        cwd=ROOT,
        env={"CERTIFY": "off", **os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Running(process)
    reader = threading.Thread(target=server.read_log, daemon=True)
    reader.start()
    try:
        server.port = server.wait_for("listening")["port"]
        server.wait_for(until)
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join(5)
        assert process.stderr
        process.stderr.close()
