"""The trials as points of a record: what was measured, what is foretold, and which are on the front."""

from collections.abc import Sequence

from toolchain.search.front import front_ranks
from toolchain.search.outcomes import TrialOutcome, latest
from toolchain.search.record import SearchPoint
from toolchain.search.rungs import expected_gain


def search_points(outcomes: Sequence[TrialOutcome], epochs: Sequence[int]) -> list[SearchPoint]:
    """A point a recipe, the fastest first: those that were trained by their longest training, then the others."""
    ends = latest(outcomes)
    foretold = {outcome.proposal.key: foretell_loss(outcomes, outcome, epochs) for outcome in ends}
    ranks = front_ranks([(outcome.ratio, foretold[outcome.proposal.key][0]) for outcome in ends])
    front = {outcome.proposal.key for outcome, rank in zip(ends, ranks, strict=True) if rank == 0}
    points = [
        _point(outcome, epochs, foretold[outcome.proposal.key], outcome.proposal.key in front) for outcome in ends
    ]
    others = [_point(outcome, epochs, None, False) for outcome in outcomes if outcome.loss is None]
    return sorted(points, key=lambda point: -point.speedup) + others


def foretell_loss(
    outcomes: Sequence[TrialOutcome], outcome: TrialOutcome, epochs: Sequence[int]
) -> tuple[float, float | None]:
    """Points that it is expected to lose after the longest training, and the error of that: of the images, and of how
    much training wins back; None where too few were trained that long."""
    last = len(epochs) - 1
    if outcome.rung == last:
        return outcome.known_loss, outcome.error
    gain = expected_gain(outcomes, outcome.rung, last)
    error = None if gain.error is None else (gain.error**2 + outcome.error**2) ** 0.5
    return gain.foretell(outcome.known_loss), error


def _point(
    outcome: TrialOutcome, epochs: Sequence[int], foretold: tuple[float, float | None] | None, is_front: bool
) -> SearchPoint:
    return SearchPoint(
        trial=outcome.trial,
        what=outcome.proposal.describe(),
        epochs=sum(epochs[: outcome.rung + 1]) if outcome.loss is not None else 0,
        speedup=1 / outcome.ratio if outcome.ratio else 0.0,
        latency_ms=outcome.latency_ms,
        size_bytes=outcome.size_bytes,
        loss=outcome.loss,
        error=outcome.error,
        foretold=foretold[0] if foretold else None,
        foretold_error=foretold[1] if foretold else None,
        is_front=is_front,
        reason=outcome.reason,
    )
