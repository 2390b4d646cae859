"""Whether two measurements may be compared: a table of the device properties that must match.

Knows nothing of latencies.
"""

from collections.abc import Iterator, Sequence

from toolchain.errors import UsageError
from toolchain.records.fingerprint import Fingerprint

# Field of Fingerprint -> its name in messages. Fields not listed here may differ, such as a container's memory limit:
# it does not slow a release down unless the release is killed.
MUST_MATCH = {
    "architecture": "architecture",
    "cpu_model": "CPU",
    "cpu_isa": "CPU features",
    "cores": "number of CPUs",
    "cpus_allowed": "number of usable CPUs",
    "cpu_quota": "CPU quota",
    "cpuset": "usable CPUs",
    "microcode": "microcode",
    "numa_nodes": "number of NUMA nodes",
    "governor": "frequency governor",
    "turbo": "turbo",
    "clock_mhz": "highest clock",
    "kernel": "kernel",
    "hypervisor": "virtualization",
    "memory_bytes": "memory",
    "gpu": "GPU",
    "gpu_driver": "GPU driver",
}
ENGINE = "engine"  # a property of a release, not of a device
ALLOWABLE = (*MUST_MATCH, ENGINE)


def mismatches(
    first: Fingerprint, other: Fingerprint, engines: tuple[str, str] = ("", ""), allowed: Sequence[str] = ()
) -> Iterator[str]:
    """One sentence for each property that differs but must match. engines: their versions. allowed: exceptions."""
    for field, words in MUST_MATCH.items():
        mine, theirs = getattr(first, field), getattr(other, field)
        if mine != theirs and field not in allowed:
            yield f"{words}: {_format_value(mine)} against {_format_value(theirs)}"
    if engines[0] != engines[1] and ENGINE not in allowed:
        mine, theirs = (engine or "none" for engine in engines)
        yield f"engine: {mine} against {theirs}; to compare them anyway: --allow-difference=engine"


def check_allowed_differences(words: Sequence[str]) -> tuple[str, ...]:
    """The words themselves; UsageError for one that is not a comparable property."""
    for word in words:
        if word not in ALLOWABLE:
            raise UsageError(f"--allow-difference={word}: expected some of {', '.join(ALLOWABLE)}")
    return tuple(words)


def _format_value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value in ("", None) else str(value)
