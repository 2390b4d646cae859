"""Servers are measured whole, held still between slices, and none of their processes is left."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.serving.cost import cpu_s, family, memory_mb
from benchmarks.serving.processes import awake, start_process

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
time.sleep(60)
"""


def within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def gone(pid: int) -> bool:
    """Or a zombie that its new parent has not buried yet."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_all_processes_that_a_server_started_end_with_it(tmp_path: Path) -> None:
    with start_process([sys.executable, "-c", PARENT], tmp_path / "log") as process:
        assert within(10, lambda: len(family(process.pid)) == 2)
        child = family(process.pid)[1]
        assert within(10, lambda: cpu_s(process.pid) > 0.1)
        assert memory_mb(process.pid) > memory_mb(child) > 1
        with awake(process.pid):
            pass
        before = cpu_s(process.pid)
        time.sleep(0.3)
        assert cpu_s(process.pid) - before <= 0.05
        with awake(process.pid):
            assert within(10, lambda: cpu_s(process.pid) > before + 0.1)
    assert within(10, lambda: gone(child))
