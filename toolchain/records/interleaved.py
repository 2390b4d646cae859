"""What host and container say to each other in a duet: a line of JSON each.

Never stored, so it has no format number; a host passes over what a newer container tells besides.
"""

from typing import Literal

import msgspec

from toolchain.records.fingerprint import Fingerprint

THROUGHPUT_BATCH = 16  # pictures that one throughput query holds
UNREADABLE_REQUEST = "not a turn"  # begins the error of a container that cannot read what it is asked
WARMUP_CALLS = (
    3  # calls before each "latency" turn that do not count: the others have used the caches since the last one
)


class SliceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the host asks for: `queries` calls, one after the other ("latency"), or as many at once as keep the engine
    busy, of 16 pictures each ("throughput"); or the held-out pictures, whatever `queries` ("pictures"). slower: each
    call is lengthened by that share (0.05: 5 %) on purpose, by which `gate selftest` learns what the gate can see.
    precision: empty for what this device serves, by the certificate on its volume, else by the build's choice.
    pinned: the engine's threads stay on their cores, where it can do that; see Settings."""

    precision: str
    queries: int
    what: Literal["latency", "throughput", "pictures"] = "latency"
    slower: float = 0.0
    pinned: bool = False


class SliceResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the host gets, or why not. latencies_ms: in order; throughput_per_s: pictures; right: whether each held-out
    picture is answered right, on what device and by how many threads; throttled_periods: of the cgroup, within this
    slice; peak_memory_bytes: of the process so far; joules: of the device during a throughput slice, None where it does
    not tell; precision: what was played, told with the pictures."""

    latencies_ms: tuple[float, ...] = ()
    throughput_per_s: float | None = None
    joules: float | None = None
    right: tuple[bool, ...] = ()
    device: Fingerprint | None = None
    threads: int = 0
    throttled_periods: int = 0
    peak_memory_bytes: int = 0
    engine: str = ""
    precision: str = ""
    error: str = ""
