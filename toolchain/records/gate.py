"""The result of a gate: a candidate release against the releases that it must not be slower than, on one device.

Format history
1  first (0.2.0)
2  the verdict "unsure" is "inconclusive"; that of format 1 is read as the new word
"""

from typing import Literal

import msgspec

from toolchain.records.fingerprint import Fingerprint

FORMAT = 2
CANDIDATE, BASELINE, ANCHOR = "candidate", "baseline", "anchor"
GateVerdict = Literal["passed", "regressed", "inconclusive", "not comparable"]
Old = Literal["unsure"]  # what format 1 has for inconclusive; no record in memory has it


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One interleaved round A B B A (with an anchor A B C C B A), every field by role: latencies_ms of its slices,
    throughput_per_s of its batch slices, the number of CPU periods in which it was throttled, and joules per image of
    its batches (empty where energy cannot be read)."""

    latencies_ms: dict[str, tuple[tuple[float, ...], ...]]
    throughput_per_s: dict[str, tuple[float, ...]] = {}
    throttled_periods: dict[str, int] = {}
    joules: dict[str, float] = {}


class GatedRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release in a gate. right: how many of `images` held-out images it classified correctly on this device; None:
    the bundle has none."""

    bundle: str
    name: str
    release: str
    image: str
    precision: str
    engine: str
    image_bytes: int
    peak_memory_bytes: int
    right: int | None = None
    images: int = 0

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None or not self.images else self.right / self.images


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric of the candidate against `against` (baseline or anchor).

    change: how much worse, as a share (0.02: 2 % slower, larger or less throughput; for accuracy: a share of the
    images); negative is better. low, high: its 98 % confidence interval. margin: the budget. p: of the test that the
    change exceeds the budget, corrected for the number of metrics. None: not defined for this metric. verdict "": not
    judged, for the reason in `note`.
    """

    metric: str
    against: str
    verdict: GateVerdict | Old | Literal[""]
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float = 0.0
    p: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _use_current_word(self)


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """sides: the releases by role. fingerprint: the device's; None: the containers did not report it. confirming: the
    rounds of a second run, without which no timed metric counts as regressed. floors: by how much this device's noise
    separates equal releases, by metric, where that was learned. slower: the slowdown that the self-test injected.
    """

    sides: dict[str, GatedRelease]
    fingerprint: Fingerprint | None
    threads: int
    rounds: tuple[Round, ...]
    confirming: tuple[Round, ...]
    findings: tuple[Finding, ...]
    floors: dict[str, float]
    verdict: GateVerdict | Old
    reason: str
    judged_at: str
    seconds: float
    slower: float = 0.0
    format: int = FORMAT

    def __post_init__(self) -> None:
        _use_current_word(self)
        msgspec.structs.force_setattr(self, "format", FORMAT)


def _use_current_word(record: Finding | Gate) -> None:
    if record.verdict == "unsure":
        msgspec.structs.force_setattr(record, "verdict", "inconclusive")
