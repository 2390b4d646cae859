"""A server's processes: start them, suspend them while others are measured, and terminate them with all descendants."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.serving.cost import family

PATIENCE_S = 10.0


@contextmanager
def start_process(
    command: Sequence[object], log: Path, cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process whose output goes to `log`; terminated with all its workers at the end of the block."""
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=lines, stderr=lines, cwd=cwd, env={**os.environ, **(more or {})}
        )
        try:
            yield process
        finally:
            everyone = family(process.pid)
            _tell(everyone, signal.SIGCONT)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
            _tell(everyone, signal.SIGKILL)
            process.wait()


def wait_until_listening(process: "subprocess.Popen[bytes]", log: Path) -> dict[str, dict[str, Any]]:
    """The log lines of our server by event, once it is ready; RuntimeError with the log if it does not start."""
    messages: dict[str, dict[str, Any]] = {}
    while "ready" not in messages:
        if process.poll() is not None or "not ready" in messages:
            raise RuntimeError(f"our server did not start: {log.read_text()[-1000:]}")
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            messages = {line["event"]: line for line in lines}
    return messages


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Resume a server for the block: outside of it, it is suspended, since polling would disturb other measurements."""
    everyone = family(pid)
    _tell(everyone, signal.SIGCONT)
    try:
        yield
    finally:
        _tell(everyone, signal.SIGSTOP)


def _tell(pids: Sequence[int], what: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)
