"""What the trials found, read from the study: one outcome for each recipe and rung, however often it was tried."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from toolchain.search.proposal import SearchProposal

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

RUNG, OUTCOME, REASON = "rung", "outcome", "left out"
IMPOSSIBLE = "impossible: "  # a reason begins so where the recipe could not be made


class TrialOutcome(msgspec.Struct, frozen=True):
    """ratio: latency as a share of the uncut net's, measured in turn with it. loss, error: percentage points on the
    validation split, and their standard error; None: not trained, `reason` says why. rung: how far it was trained.
    seconds: what the trial took."""

    trial: int
    proposal: SearchProposal
    rung: int
    ratio: float
    latency_ms: float
    macs: int
    size_bytes: int
    loss: float | None = None
    error: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return self.proposal.key, self.rung

    @property
    def known_loss(self) -> float:
        """For outcomes that were trained."""
        assert self.loss is not None
        return self.loss


def read_outcomes(study: "Study") -> list[TrialOutcome]:
    """In the order in which they ended, each recipe and rung once."""
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    first: dict[tuple[str, int], TrialOutcome] = {}
    for trial in sorted(ended, key=_end):
        if OUTCOME in trial.user_attrs:
            outcome = msgspec.convert(trial.user_attrs[OUTCOME], TrialOutcome)
            first.setdefault(outcome.key, outcome)
    return list(first.values())


def _end(trial: "FrozenTrial") -> tuple[float, int]:
    return (trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0), trial.number


def trained_outcomes(outcomes: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    return [outcome for outcome in outcomes if outcome.loss is not None]


def latest(outcomes: Iterable[TrialOutcome]) -> list[TrialOutcome]:
    """Of each recipe that was trained, the outcome of its longest training."""
    last: dict[str, TrialOutcome] = {}
    for outcome in sorted(trained_outcomes(outcomes), key=lambda each: each.rung):
        last[outcome.proposal.key] = outcome
    return list(last.values())
