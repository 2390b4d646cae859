"""What a device found when it checked a bundle on itself.

Format history
1  first (0.1.0)
2  the fingerprint tells microcode, NUMA nodes, cpuset, turbo and clock (0.2.0)
3  the candidates that the device tried, LoadGen's scenarios, memory, cold start, energy, throttling; signed (0.2.0)
4  what the GPU was and did (0.3.0)
"""

import base64
from collections.abc import Sequence
from typing import Literal

import msgspec

from toolchain.errors import RecordError
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gpu import GpuFigures, Percentiles
from toolchain.records.report import Scenario, percentiles

FORMAT = 4
PERCENTS = (50.0, 90.0, 99.0)


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that was checked; `found` and `expected` in words for a person."""

    name: str
    passed: bool
    found: str
    expected: str


class CandidateResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate on this device. latency_ms: median of batch 1, all candidates in turn in one run; accuracy: of the
    held-out pictures, a share; None: not measured, and `verdict` tells why."""

    precision: str
    latency_ms: float | None
    accuracy: float | None
    verdict: str


class ScenarioSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What LoadGen found in one scenario. percentiles_ms: 50th, 90th and 99th of a query, None where there were too
    few; note: why the run does not count, when it does not."""

    scenario: str
    queries: int
    seconds: float
    percentiles_ms: Percentiles
    throughput_per_s: float
    valid: bool
    note: str = ""


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """accuracy with its 95 % interval (Wilson), shares of `images` held-out pictures; None: no labels bundled.

    chosen_by: whether `precision` is the build's choice or this device's, from `candidates`. cold_start_s: from the
    process's first line to the first answers. joules_per_picture: of the whole package, during Offline; None where it
    cannot be read, and `energy` tells why, else by what it was read. key, signature: Ed25519 (RFC 8032), base64; the
    signature is of the document without itself, keys sorted.
    """

    bundle: str
    name: str
    release: str
    precision: str
    engine: str
    fingerprint: Fingerprint
    checks: tuple[Check, ...]
    images: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    issued_at: str
    threads: int = 0
    chosen_by: Literal["build", "device"] = "build"
    candidates: tuple[CandidateResult, ...] = ()
    scenarios: tuple[ScenarioSummary, ...] = ()
    peak_memory_bytes: int = 0
    cold_start_s: float | None = None
    joules_per_picture: float | None = None
    energy: str = ""
    throttled_periods: int = 0
    gpu: GpuFigures | None = None
    key: str = ""
    signature: str = ""
    format: int = FORMAT

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def summarize_scenarios(scenarios: Sequence[Scenario]) -> tuple[ScenarioSummary, ...]:
    """The scenarios without every single latency."""
    return tuple(
        ScenarioSummary(
            one.scenario,
            len(one.latencies_ms),
            one.seconds,
            percentiles(one.latencies_ms),
            one.throughput_per_s,
            one.valid,
            one.note,
        )
        for one in scenarios
    )


def signable_bytes(document: bytes) -> bytes:
    """What is signed of a certificate's JSON, as it lies on disk: all but the signature, keys sorted. Of the document
    and not of the record, so that a record that grows does not break older signatures. RecordError: no JSON object."""
    try:
        found = msgspec.json.decode(document, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise RecordError(f"not a certificate: {error}") from error
    found.pop("signature", None)
    return msgspec.json.encode(found, order="deterministic")


def short_key(key: str) -> str:
    """A public key (base64) as people compare it: the first 16 characters."""
    return key[:16]


def decode_base64(text: str) -> bytes:
    """base64 -> bytes; RecordError."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RecordError(f"not base64: {text[:20]!r}") from error
