"""The messages between host and container in an interleaved A/B measurement (duet benchmarking): one JSON line each.

Never stored, so they have no format number; a host ignores fields that a newer container adds.
"""

from typing import Literal

import msgspec

from toolchain.records.fingerprint import Fingerprint

THROUGHPUT_BATCH = 16  # images per throughput query
UNREADABLE_REQUEST = "not a turn"  # starts the error of a container that cannot read a request
WARMUP_CALLS = 3  # uncounted calls before each "latency" slice, since the other variants have used the caches


class SliceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One slice of measurement: `queries` calls one after the other ("latency"), or of 16 images each and as many at
    once as keep the engine busy ("throughput"); or the held-out images, whatever `queries` ("pictures"). slower: the
    share by which each call is lengthened (0.05: 5 %), with which `gate selftest` finds what the gate can detect.
    precision: empty for the one that this device serves (by the certificate on its volume, else the build's choice).
    pinned: keep the engine's threads on their cores, where it supports that; see Settings."""

    precision: str
    queries: int
    what: Literal["latency", "throughput", "pictures"] = "latency"
    slower: float = 0.0
    pinned: bool = False


class SliceResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a slice, or its `error`. latencies_ms: in order; throughput_per_s: images; right: whether each
    held-out image was classified correctly, with all of its labels where it may have several; answers: the class of
    each golden image (or a number for its labels), and `inputs` the digest of those images; device, threads: sent with
    `right`; throttled_periods: of the cgroup within this slice; peak_memory_bytes: of the process so far; joules: of
    the device during a throughput slice, None where they cannot be read; precision: the measured one, sent with
    `right`."""

    latencies_ms: tuple[float, ...] = ()
    throughput_per_s: float | None = None
    joules: float | None = None
    right: tuple[bool, ...] = ()
    answers: tuple[int, ...] = ()
    inputs: str = ""
    device: Fingerprint | None = None
    threads: int = 0
    throttled_periods: int = 0
    peak_memory_bytes: int = 0
    engine: str = ""
    precision: str = ""
    error: str = ""
