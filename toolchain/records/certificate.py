"""What a device found when it checked a bundle on itself.

Format history
1  first (0.1.0)
2  the fingerprint tells microcode, NUMA nodes, cpuset, turbo and clock (0.2.0)
"""

import msgspec

from toolchain.records.fingerprint import Fingerprint

FORMAT = 2


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that was checked; `found` and `expected` in words for a person."""

    name: str
    passed: bool
    found: str
    expected: str


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """accuracy with its 95 % interval (Wilson), shares of `images` held-out pictures; None: no labels bundled."""

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
    format: int = FORMAT

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)
