"""Whether two measurements may be compared: a table of the device properties that must match.

Knows nothing of latencies.
"""

from collections.abc import Iterator, Sequence

from toolchain.errors import UsageError
from toolchain.records.fingerprint import Fingerprint

# field of Fingerprint -> what a person calls it. What is not listed may differ: a host's memory limit for a container,
# since neither release is held back by it unless it is killed.
MUST_MATCH = {
    "architecture": "architecture",
    "cpu_model": "CPU",
    "cpu_isa": "CPU features",
    "cores": "number of CPUs",
    "cpus_allowed": "number of CPUs that it may use",
    "cpu_quota": "CPU quota",
    "cpuset": "CPUs that it may use",
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
ENGINE = "engine"  # of a release, not of a device
ALLOWABLE = (*MUST_MATCH, ENGINE)


def mismatches(
    one: Fingerprint, other: Fingerprint, engines: tuple[str, str] = ("", ""), allowed: Sequence[str] = ()
) -> Iterator[str]:
    """A sentence for each fact that differs and may not. engines: their versions; across: facts that may differ."""
    for field, words in MUST_MATCH.items():
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine != theirs and field not in allowed:
            yield f"{words}: {_format_value(mine)} against {_format_value(theirs)}"
    if engines[0] != engines[1] and ENGINE not in allowed:
        mine, theirs = (engine or "none" for engine in engines)
        yield f"engine: {mine} against {theirs}; to compare them anyway: --allow-difference=engine"


def check_allowed_differences(words: Sequence[str]) -> tuple[str, ...]:
    """UsageError for a word that names no property of a device."""
    for word in words:
        if word not in ALLOWABLE:
            raise UsageError(f"--allow-difference={word}: expected some of {', '.join(ALLOWABLE)}")
    return tuple(words)


def _format_value(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "not known" if value in ("", None) else str(value)
