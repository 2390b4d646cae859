"""What a device measured and checked when it certified a bundle on itself.

Format history
1  first (0.1.0)
2  the fingerprint records microcode, NUMA nodes, cpuset, turbo and clock (0.2.0)
3  the candidates that the device measured, LoadGen's scenarios, memory, cold start, energy, throttling; signed (0.2.0)
4  what the GPU was and did (0.3.0)
5  what its accuracy measures (0.4.0)
6  mean average precision, where labels do not exclude each other (0.4.0)
"""

import base64
from collections.abc import Sequence
from typing import Literal

import msgspec

from toolchain.errors import RecordError
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gpu import GpuFigures, Percentiles
from toolchain.records.manifest import Manifest
from toolchain.records.report import Scenario, percentiles
from toolchain.records.saturation import adds_at_16_bits
from toolchain.records.storage import JSON_ERRORS

FORMAT = 6
PERCENTS = (50.0, 90.0, 99.0)
NOT_OPENED = "not opened"  # the engine of a certificate whose device lacks what the bundle needs


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One check; `found` and `expected` are phrases for a person to read."""

    name: str
    passed: bool
    found: str
    expected: str


class CandidateResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate on this device. latency_ms: median at batch 1, all candidates interleaved in one run; accuracy: share
    of the held-out images; None: not measured, for the reason in `verdict`."""

    precision: str
    latency_ms: float | None
    accuracy: float | None
    verdict: str


class ScenarioSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """LoadGen's results for one scenario. percentiles_ms: 50th, 90th and 99th of a query, None where there were too few
    queries; note: why the run is not valid, if it is not."""

    scenario: str
    queries: int
    seconds: float
    percentiles_ms: Percentiles
    throughput_per_s: float
    valid: bool
    note: str = ""


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """accuracy with its 95 % interval (Wilson), shares of `images` held-out images; None: the bundle has no labels.
    measure: top-1, or the mean F1 of an image's labels; mean_average_precision: over the labels, where they do not
    exclude each other.

    chosen_by: whether the build or this device chose `precision` from `candidates`. cold_start_s: from the process's
    first line to the first outputs. joules_per_picture: of the whole CPU package, per image, during Offline; None where
    it cannot be read. energy: how it was read, or why it could not be. key, signature: Ed25519 (RFC 8032), base64; the
    signature covers the document without the signature itself, keys sorted.
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
    measure: str = "top-1"
    mean_average_precision: float | None = None
    key: str = ""
    signature: str = ""
    format: int = FORMAT

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def summarize_scenarios(scenarios: Sequence[Scenario]) -> tuple[ScenarioSummary, ...]:
    """The scenarios without their individual latencies."""
    return tuple(
        ScenarioSummary(
            run.scenario,
            len(run.latencies_ms),
            run.seconds,
            percentiles(run.latencies_ms),
            run.throughput_per_s,
            run.valid,
            run.note,
        )
        for run in scenarios
    )


class SaturationOutcome(msgspec.Struct, frozen=True):
    """What the build predicted of a candidate's sums, and whether it answered fewer images right on this device."""

    precision: str
    predicted: bool
    lost: bool

    @property
    def is_hit(self) -> bool:
        return self.predicted == self.lost


def allowed_losses(images: int) -> int:
    """How many fewer of `images` may be right than on the build machine: one in a hundred, and always one."""
    return max(1, images // 100)


def saturation_outcomes(manifest: Manifest, certificate: Certificate) -> tuple[SaturationOutcome, ...]:
    """Of the candidates with a prediction that were answered for here; none on a device that adds at 32 bits."""
    device, images = certificate.fingerprint, certificate.images
    if not images or not adds_at_16_bits(device.architecture, device.cpu_isa):
        return ()
    measured = {one.precision: one.accuracy for one in certificate.candidates}
    measured.setdefault(certificate.precision, certificate.accuracy)
    outcomes = []
    for one in manifest.candidates:
        here, built = measured.get(one.precision), manifest.certified_accuracy(one.precision)
        if one.saturation is not None and here is not None and built is not None:
            lost = round(built * images) - round(here * images) > allowed_losses(images)
            outcomes.append(SaturationOutcome(one.precision, one.saturates, lost))
    return tuple(outcomes)


def signable_bytes(document: bytes) -> bytes:
    """The signed part of a certificate's JSON as it is on disk: all but the signature, keys sorted. It is taken from
    the document, not from the record, so that new fields do not break old signatures. RecordError: not a JSON object.
    """
    try:
        fields = msgspec.json.decode(document, type=dict[str, object])
    except JSON_ERRORS as error:
        raise RecordError(f"not a signed document: {error}") from error
    fields.pop("signature", None)
    return msgspec.json.encode(fields, order="deterministic")


def short_key(key: str) -> str:
    """The first 16 characters of a public key (base64), the form that people compare."""
    return key[:16]


def decode_base64(text: str) -> bytes:
    """base64 -> bytes; RecordError when `text` is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RecordError(f"not base64: {text[:20]!r}") from error
