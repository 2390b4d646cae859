"""CPU seconds and memory of a process and all its descendants, from /proc."""

import os
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """The process and its living descendants."""
    pids = [pid]
    for process in pids:
        for task in (PROC / str(process) / "task").glob("*/children"):
            pids += [int(child) for child in task.read_text().split()]
    return pids


def cpu_s(pid: int) -> float:
    """User and system time so far, including children that have exited."""
    return sum(sum(map(int, _stat(process)[11:15])) for process in family(pid)) * TICK_S


def memory_mb(pid: int) -> float:
    """Proportional set size: pages shared by processes count once."""
    return sum(_pss_kb(process) for process in family(pid)) / 1e3


def busy(seconds: float = 1.0) -> float:
    """The current CPU utilization of the machine, as a share."""
    before = _times()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(_times(), before, strict=True)]
    return 1 - (spent[3] + spent[4]) / sum(spent)  # idle and iowait


def _times() -> list[int]:
    return [int(word) for word in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may contain blanks; the first is the state."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _pss_kb(pid: int) -> float:
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) * 1.024 for line in lines if line.startswith("Pss:"))
