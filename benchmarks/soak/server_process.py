"""A server process on the null engine, observed from outside: log, memory, open files."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import start_process, wait_until_listening
from tests.bundles import null_bundle

ROOT = Path(__file__).parents[2]
FAULTS = ("unexpected", "fault")


class ServerProcess:
    """ports by `listening` and `listening for gRPC`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log = process, log
        self._read = 0

    def lines(self) -> list[dict[str, Any]]:
        """The log lines since the last call; a line that is not JSON, such as a traceback, is an event `plain`."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            *whole, rest = file.read().split(b"\n")
            self._read = file.tell() - len(rest)
        return [json.loads(one) if one.startswith(b"{") else {"event": "plain", "text": repr(one)} for one in whole]

    def faults(self) -> list[str]:
        """Log lines that no client error may cause."""
        return [str(line) for line in self.lines() if line["event"] in (*FAULTS, "plain")]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def memory_mb(self) -> float:
        """Resident set size."""
        text = (self._proc / "status").read_text()
        return next(float(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS:"))

    @property
    def files(self) -> int:
        """The number of open file descriptors, of connections and of regions."""
        return sum(1 for _ in (self._proc / "fd").iterdir())

    @property
    def _proc(self) -> Path:
        return Path("/proc") / str(self._process.pid)

    def wait_until_ready(self) -> tuple[int, int]:
        """Wait until the server listens; return its ports for HTTP and gRPC."""
        ready = wait_until_listening(self._process, self._log)
        return ready["listening"]["port"], ready["listening for gRPC"]["grpc_port"]


@contextmanager
def run_server(folder: Path, *flags: str, delay_ms: float = 0.0) -> Iterator[tuple[ServerProcess, int, int]]:
    """The server and its ports for HTTP and gRPC."""
    bundle = null_bundle(folder / "null.bundle", delay_ms)
    words = ["serve", f"--bundle={bundle.folder}", "--host=127.0.0.1", "--port=0", "--grpc-port=0", "--certify=off"]
    log = folder / "server.log"
    with start_process([sys.executable, "-m", "deploy.runtime", *words, *flags], log, ROOT) as process:
        server = ServerProcess(process, log)
        yield server, *server.wait_until_ready()
