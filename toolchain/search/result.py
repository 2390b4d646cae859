"""What the search ends with: the front built, the best of it, what its steps brought, and the cost; as one record."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sql

from toolchain.build.step_verdict import NOISE
from toolchain.records.bundle import Bundle
from toolchain.records.storage import encode_record, write_atomically
from toolchain.search.budget import SearchBudget
from toolchain.search.compose import RecipeBase
from toolchain.search.final import best_row, build_front, choose_front
from toolchain.search.outcomes import IMPOSSIBLE, TrialOutcome, latest, read_outcomes, trained_outcomes
from toolchain.search.record import SearchCost, SearchRecord, SearchRow
from toolchain.search.rungs import search_points
from toolchain.search.storage import show_url
from toolchain.search.structure import SearchSite

if TYPE_CHECKING:
    from optuna.study import Study

RECORD = "search.json"


def make_record(
    base: RecipeBase,
    site: SearchSite,
    study: "Study",
    baseline: Bundle,
    budget: SearchBudget,
    most: int,
    left_out: tuple[str, ...],
    url: sql.URL,
    threads: int,
) -> SearchRecord:
    """Builds what is on the front, and writes search.json beside the recipes."""
    outcomes = read_outcomes(study)
    chosen = choose_front(outcomes, base.floor, most)
    first, rows, bundles = build_front(site, base, chosen, baseline, threads)
    best = best_row(rows, base.floor)
    record = SearchRecord(
        name=base.recipe.name,
        target=site.target,
        floor=base.floor,
        measure=baseline.manifest.measure,
        baseline=first,
        front=rows,
        best=best,
        sentence=describe_end(first, rows, best, base, outcomes),
        steps=bundles[best.recipe].manifest.steps if best is not None else (),
        points=tuple(search_points(outcomes, base.epochs)),
        left_out=left_out,
        cost=_cost(base, outcomes, budget),
        study=study.study_name,
        storage=show_url(url),
        folder=str(site.folder),
    )
    write_atomically(site.folder / RECORD, encode_record(record))
    return record


def describe_end(
    baseline: SearchRow,
    rows: Sequence[SearchRow],
    best: SearchRow | None,
    base: RecipeBase,
    outcomes: Sequence[TrialOutcome],
) -> str:
    """The best recipe; or plainly that there is none, how near the nearest comes, and what keeps it from more."""
    if best is not None:
        return (
            f"best: {best.recipe}: {best.speedup:.2f} times as fast as the uncut net in {baseline.precision}, "
            f"{best.loss:.2f} points lost of {base.floor:g}"
        )
    known = [row for row in rows if row.speedup is not None and row.loss is not None]
    if any((row.loss or 0.0) <= base.floor for row in known):
        return (
            f"nothing better found: no recipe within {base.floor:g} points is faster than the uncut net by more than "
            f"{100 * (NOISE - 1):.0f} %; give more --hours, or allow more: --max-accuracy-loss"
        )
    if not trained_outcomes(outcomes):
        reasons = {outcome.reason.partition(":")[0] for outcome in outcomes}
        said = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        return f"nothing better found: no recipe was worth a training{said}; widen [search], or give more --hours"
    nearest = min(latest(outcomes), key=lambda outcome: outcome.known_loss)
    row = min(known, key=lambda row: row.loss or 0.0, default=None)
    speed = row.speedup if row is not None else 1 / nearest.ratio
    loss = row.loss if row is not None else nearest.known_loss
    return (
        f"no recipe loses at most {base.floor:g} points: the nearest, {nearest.proposal.describe()}, loses {loss:.2f} "
        f"at {speed:.2f} times the speed; what binds is {_explain_bound(nearest, base)}"
    )


def _explain_bound(nearest: TrialOutcome, base: RecipeBase) -> str:
    """What kept the nearest recipe from losing less."""
    last = len(base.epochs) - 1
    if nearest.rung < last:
        return f"--hours: it was trained for {sum(base.epochs[: nearest.rung + 1])} of {sum(base.epochs)} epochs"
    if not nearest.proposal.is_cut:
        return "--max-accuracy-loss: the uncut net loses as much when it is quantized"
    return f"search.epochs = {list(base.epochs)}, or the lowest channel_ratio and blocks: less can be cut"


def _cost(base: RecipeBase, outcomes: Sequence[TrialOutcome], budget: SearchBudget) -> SearchCost:
    done = trained_outcomes(outcomes)
    untrained = [outcome for outcome in outcomes if outcome.loss is None]
    impossible = sum(outcome.reason.startswith(IMPOSSIBLE) for outcome in untrained)
    return SearchCost(
        hours=budget.elapsed_s / 3600,
        hours_before=budget.spent_s / 3600,
        trained=sum(outcome.rung == 0 for outcome in done),
        trained_further=sum(outcome.rung > 0 for outcome in done),
        untrained=len(untrained) - impossible,
        impossible=impossible,
        epochs=sum(base.epochs[outcome.rung] for outcome in done),
        working=budget.working_s / budget.searching_s if budget.searching_s else 0.0,
    )
