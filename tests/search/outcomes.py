"""Outcomes for tests, as trials would have left them."""

from toolchain.search.outcomes import TrialOutcome
from toolchain.search.proposal import SearchProposal


def outcome(
    trial: int, ratio: float, loss: float | None, rung: int = 0, macs: int = 100, recipe: int | None = None
) -> TrialOutcome:
    """recipe: the same number is the same recipe; by default the trial's."""
    number = trial if recipe is None else recipe
    proposal = SearchProposal(channel_ratio=0.1, lr=0.01 * (number + 1))
    return TrialOutcome(trial, proposal, rung, ratio, ratio, macs, 1000, loss, 0.5, seconds=10.0)
