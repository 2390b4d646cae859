"""What the kernel's control groups allow this process: CPUs, memory, and how often it was throttled. Versions 1 and 2.

Knows nothing about CPUs themselves (probe.py does). Every function takes the folder that stands for `/`, so that
recorded trees can be read in tests. None or 0 stands for "no such file here, or no limit".

Layout: kernel documentation, admin-guide/cgroup-v1 and admin-guide/cgroup-v2; proc(5) for mountinfo.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
NO_LIMIT = 1 << 60  # version 1 writes "no limit" as the largest page-aligned integer


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that the strictest group round this process may use; None: no quota."""
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """Bytes that the strictest group round this process may use; None: no limit."""
    limits = [limit for folder in _folders(root, "memory") if (limit := _memory_limit(folder)) is not None]
    return min(limits, default=None)


def throttled_periods(root: Path = ROOT) -> int:
    """Scheduling periods in which this process's group, or one round it, had used its quota up; counted since boot."""
    return sum(_count(folder / "cpu.stat", "nr_throttled") for folder in _folders(root, "cpu"))


def peak_memory_bytes(root: Path = ROOT) -> int:
    """The most memory that this process ever held: VmHWM (proc(5)), else the group's own peak, which counts the page
    cache too; 0 where neither can be read."""
    resident_kb = _count(root / "proc/self/status", "VmHWM:")
    if resident_kb:
        return resident_kb * 1024
    for folder in _folders(root, "memory"):
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (text := read(folder / name)).isdigit():
                return int(text)
    return 0


def read(path: Path) -> str:
    """A small file's text without its last newline; "" where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The group of this process for `controller` and every group round it, innermost first, as far as we may see."""
    mounted = _mount(root, controller)
    if mounted is None:
        return
    mount, inside, version = mounted
    path = _own_path(root, controller if version == 1 else "")
    # Without a namespace of its own a container sees the host's path but only its own part of the tree mounted.
    relative = path.relative_to(inside) if path.is_relative_to(inside) else PurePosixPath()
    parts = [part for part in relative.parts if part not in ("/", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _mount(root: Path, controller: str) -> tuple[Path, PurePosixPath, int] | None:
    """Where `controller` is mounted, which part of the tree that is, and its version; version 1 first: on a hybrid
    host the version 2 tree is mounted too, without controllers."""
    found: tuple[Path, PurePosixPath, int] | None = None
    for line in read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        place = root / fields[4].lstrip("/"), PurePosixPath(fields[3])
        if kind[0] == "cgroup" and controller in kind[2].split(","):
            return *place, 1
        if kind[0] == "cgroup2":
            found = *place, 2
    return found


def _own_path(root: Path, controller: str) -> PurePosixPath:
    """This process's group: `hierarchy:controllers:path` lines, the controllers of version 2 being empty."""
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return PurePosixPath(path)
    return PurePosixPath("/")


def _quota(folder: Path) -> float | None:
    both = read(folder / "cpu.max").split() or [
        read(folder / "cpu.cfs_quota_us"),
        read(folder / "cpu.cfs_period_us"),
    ]
    if len(both) != 2 or not both[0].isdigit() or not both[1].isdigit():
        return None  # "max" in version 2, -1 in version 1
    return int(both[0]) / int(both[1])


def _memory_limit(folder: Path) -> int | None:
    text = read(folder / "memory.max") or read(folder / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < NO_LIMIT else None


def _count(path: Path, key: str) -> int:
    """The number after `key` in a file of `key number` lines."""
    for line in read(path).splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == key:
            return int(words[1])
    return 0
