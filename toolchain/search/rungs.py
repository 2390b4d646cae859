"""Which recipes are trained further, what a short training foretells of a long one, and the trials as points of that.

Successive halving without waiting (ASHA: Li et al. 2020): as soon as a rung has `keep` times as many recipes as went on
from it, its best one goes on. Optuna's own pruners know one objective only, so this rule is applied to the front.
Pure: outcomes go in.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from toolchain.search.front import front_ranks
from toolchain.search.outcomes import TrialOutcome, latest, trained_outcomes
from toolchain.search.record import SearchPoint


@dataclass(frozen=True)
class TrainingGain:
    """Points that are won back from a rung to the last one. error: one standard deviation of it over recipes; None:
    fewer than two recipes were trained so far."""

    points: float = 0.0
    error: float | None = None

    def foretell(self, loss: float) -> float:
        return loss - self.points


def expected_gain(outcomes: Sequence[TrialOutcome], rung: int, last: int) -> TrainingGain:
    """Of the recipes that were trained on from `rung`, rung by rung; nothing where none was."""
    losses = {outcome.key: outcome.known_loss for outcome in trained_outcomes(outcomes)}
    points, variance, is_known = 0.0, 0.0, True
    for step in range(rung, last):
        gains = [
            losses[key, step] - losses[key, step + 1] for key, at in losses if at == step and (key, step + 1) in losses
        ]
        points += fmean(gains) if gains else 0.0
        is_known = is_known and len(gains) > 1
        variance += stdev(gains) ** 2 if len(gains) > 1 else 0.0
    return TrainingGain(points, variance**0.5 if is_known else None)


def next_promotion(
    outcomes: Sequence[TrialOutcome], rungs: int, keep: int, floor: float, at_work: Collection[tuple[str, int]] = ()
) -> TrialOutcome | None:
    """The recipe that is to be trained further; None where new ones are to be looked at first.

    The longest trained come first. Within a rung, the better front goes on, in it the recipes that are to meet the
    floor, and of these the fastest. at_work: recipes and rungs that other workers are at.
    """
    for rung in reversed(range(rungs - 1)):
        here = [outcome for outcome in trained_outcomes(outcomes) if outcome.rung == rung]
        begun = {outcome.key for outcome in outcomes} | set(at_work)
        gone = {key for key, at in begun if at == rung + 1}
        if len(here) // keep <= len(gone):
            continue
        gain = expected_gain(outcomes, rung, rungs - 1)
        ranks = front_ranks([(outcome.ratio, outcome.known_loss) for outcome in here])

        def order(pair: tuple[TrialOutcome, int], gain: TrainingGain = gain) -> tuple[int, float, float]:
            outcome, rank = pair
            return rank, max(0.0, gain.foretell(outcome.known_loss) - floor), outcome.ratio

        waiting = [pair for pair in zip(here, ranks, strict=True) if pair[0].proposal.key not in gone]
        return min(waiting, key=order)[0] if waiting else None
    return None


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
