"""A process that runs slices on request: one line of JSON in, one line out. This is the controlling side."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[2]


class Player:
    """See `start_player`."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self._name, self._process = name, process
        self.pid = process.pid

    def ask(self, question: msgspec.Struct, kind: type[Any]) -> Any:
        """The answer; RuntimeError when the process exits instead (its message is on stderr)."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name}: ended without an answer")
        return msgspec.json.decode(line, type=kind)


@contextmanager
def start_player(module: str, *arguments: object) -> Iterator[Player]:
    """`python -m benchmarks.serving.MODULE`, terminated at the end of the block."""
    command = [sys.executable, "-m", f"benchmarks.serving.{module}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Player(module, process)
        finally:
            process.kill()
