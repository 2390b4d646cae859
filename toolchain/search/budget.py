"""How much time there is, and whether the next piece of work fits in. Pure but for the clock.

The hours are those of the whole search: what earlier runs of the same command spent is taken off.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from toolchain.search.outcomes import TrialOutcome, trained_outcomes

RECENT = 5  # trials whose time foretells that of the next
MARGIN = 1.2  # a trial may take so many times what is expected of it


def format_duration(seconds: float) -> str:
    """`45 s`, `12 min` or `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass
class SearchBudget:
    """first_s: what a first look at a recipe is expected to take before any was taken; build_s: a build at the end;
    builds: so many. working_s, searching_s: this run's time in trials, and from the first to the last."""

    hours: float
    spent_s: float = 0.0
    first_s: float = 0.0
    build_s: float = 0.0
    builds: int = 1
    working_s: float = 0.0
    searching_s: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Of this run."""
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float:
        """Until the builds at the end begin."""
        return 3600 * self.hours - self.spent_s - self.elapsed_s - self.build_s * self.builds

    def fits(self, seconds: float) -> bool:
        return self.left_s >= MARGIN * seconds

    def rung_s(self, outcomes: Sequence[TrialOutcome], rung: int, epochs: Sequence[int]) -> float:
        """What a trial of this rung is expected to take: as those before it, or as its epochs are to the first's."""
        here = [outcome.seconds for outcome in trained_outcomes(outcomes) if outcome.rung == rung]
        if here:
            return max(here[-RECENT:])
        first = [outcome.seconds for outcome in trained_outcomes(outcomes) if outcome.rung == 0]
        return (max(first[-RECENT:]) if first else self.first_s) * epochs[rung] / epochs[0]
