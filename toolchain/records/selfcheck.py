"""An image's check of its own bundle, on a machine that need not be able to run it.

Format history
1  first (0.3.0)
"""

import msgspec

from toolchain.records.certificate import Check

FORMAT = 1


class SelfCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """not_run: what this machine lacks, so that no engine was opened; '' where the engines ran the golden samples."""

    bundle: str
    name: str
    release: str
    target: str
    checks: tuple[Check, ...]
    not_run: str
    format: int = FORMAT

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)
