"""What a gate found: a candidate release beside the ones that it must not be slower than, on one device.

Format history
1  first (0.2.0)
"""

from typing import Literal

import msgspec

from toolchain.records.fingerprint import Fingerprint

FORMAT = 1
CANDIDATE, BASELINE, ANCHOR = "candidate", "baseline", "anchor"
GateVerdict = Literal["passed", "regressed", "unsure", "not comparable"]


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One round A B B A (with an anchor A B C C B A); everything by contestant: latencies_ms of its slices,
    throughput_per_s of its slices of batches, in how many CPU periods it was throttled meanwhile, and joules for each
    picture of its batches (nothing where they cannot be read)."""

    latencies_ms: dict[str, tuple[tuple[float, ...], ...]]
    throughput_per_s: dict[str, tuple[float, ...]] = {}
    throttled_periods: dict[str, int] = {}
    joules: dict[str, float] = {}


class GatedRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A release in a gate. right: of `images` held-out pictures, on this device; None: none bundled."""

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
    """One figure of the candidate against `against` (baseline or anchor).

    change: how much worse, as a share (0.02: 2 % slower, bigger, less throughput; accuracy: share of the pictures);
    negative is better. low, high: its interval at 98 %. margin: what may be. p: of the test that it is beyond that,
    corrected for the number of figures. None: no such thing for this figure. verdict "" : not judged, `note` says why.
    """

    metric: str
    against: str
    verdict: GateVerdict | Literal[""]
    change: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float = 0.0
    p: float | None = None
    note: str = ""


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """fingerprint: the device's; None: the containers did not tell. confirming: the rounds of a second run, without
    which nothing that is timed is called regressed. floors: how far this device's noise sets equal releases apart, by
    metric, where that was learned. slower: injected on purpose, by the self-test.
    """

    sides: dict[str, GatedRelease]
    fingerprint: Fingerprint | None
    threads: int
    rounds: tuple[Round, ...]
    confirming: tuple[Round, ...]
    findings: tuple[Finding, ...]
    floors: dict[str, float]
    verdict: GateVerdict
    reason: str
    judged_at: str
    seconds: float
    slower: float = 0.0
    format: int = FORMAT
