"""Which recipes are trained further, and what a short training foretells of a long one.

Successive halving without waiting (ASHA: Li et al. 2020): as soon as a rung has `keep` times as many recipes as went on
from it, its best one goes on. Optuna's own pruners know one objective only, so this rule is applied to the front.
Pure: outcomes go in.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from toolchain.search.front import front_ranks
from toolchain.search.outcomes import TrialOutcome, trained


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
    losses = {outcome.key: outcome.known_loss for outcome in trained(outcomes)}
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
        here = [outcome for outcome in trained(outcomes) if outcome.rung == rung]
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
