"""The front as built: each of its recipes is written, built as `toolchain build` does, and timed in turn with the rest.

What the search had measured is not printed as a result: these figures are.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from deploy.runtime.engines import Settings, open_engine
from toolchain.build.pipeline import build
from toolchain.build.step_verdict import NOISE
from toolchain.errors import ToolchainError
from toolchain.job.latency import caller, in_turn_ms
from toolchain.recipe import Recipe
from toolchain.recipe_toml import format_recipe
from toolchain.records.bundle import SAMPLE, Bundle
from toolchain.records.storage import write_atomically
from toolchain.search.compose import RecipeBase
from toolchain.search.front import dominates
from toolchain.search.outcomes import TrialOutcome, latest
from toolchain.search.record import SearchRow
from toolchain.search.structure import SearchSite

logger = logging.getLogger(__name__)


def choose_front(outcomes: Sequence[TrialOutcome], floor: float, most: int) -> list[TrialOutcome]:
    """The recipes to build, the fastest first: of those that meet the floor within the error of what was measured, the
    front; where none does, the one that comes nearest to it."""
    ends = latest(outcomes)
    able = [outcome for outcome in ends if outcome.known_loss - outcome.error <= floor]
    if not able:
        return sorted(ends, key=lambda outcome: outcome.known_loss)[:1]
    figures = {outcome.proposal.key: (outcome.ratio, outcome.known_loss) for outcome in able}
    front = [
        outcome
        for outcome in able
        if not any(dominates(other, figures[outcome.proposal.key]) for other in figures.values())
    ]
    return sorted(front, key=lambda outcome: outcome.ratio)[:most]


def write_recipe(site: SearchSite, recipe: Recipe, comment: str) -> Path:
    place = site.place_of(recipe)
    write_atomically(place, f"# {comment}\n{format_recipe(recipe)}".encode())
    return place


def build_recipe(site: SearchSite, recipe: Recipe, comment: str) -> Bundle:
    """The recipe's file, and the bundle that the product makes of it."""
    return build(write_recipe(site, recipe, comment), site.target, None)


def build_front(
    site: SearchSite, base: RecipeBase, chosen: Sequence[TrialOutcome], baseline: Bundle, threads: int
) -> tuple[SearchRow, tuple[SearchRow, ...], dict[str, Bundle]]:
    """The row of the uncut net, those of the front, and the bundles by recipe."""
    bundles: dict[str, Bundle] = {}
    rows: list[SearchRow] = []
    for number, outcome in enumerate(chosen, 1):
        recipe = base.compose(outcome.proposal, outcome.rung + 1)
        row = SearchRow(
            recipe=recipe.name,
            what=outcome.proposal.describe(),
            trial=outcome.trial,
            epochs=sum(base.epochs[: outcome.rung + 1]),
            searched_speedup=1 / outcome.ratio,
        )
        logger.info(f"built {number} of {len(chosen)}: {recipe.name}: {row.what}")
        try:
            bundles[recipe.name] = build_recipe(site, recipe, f"found by toolchain search: {row.what}")
        except ToolchainError as error:
            row = msgspec.structs.replace(row, absent=str(error))
        rows.append(row)
    plain = base.compose(None, 0).name
    latency_ms = _latencies({plain: baseline, **bundles}, threads)
    first = _with_figures(SearchRow(recipe=plain, what="the recipe as it is, uncut"), baseline, latency_ms, plain)
    filled = tuple(
        _with_figures(row, bundles[row.recipe], latency_ms, plain) if row.recipe in bundles else row for row in rows
    )
    return first, filled, bundles


def best_row(front: Sequence[SearchRow], floor: float) -> SearchRow | None:
    """The fastest that meets the floor; None where it is no faster than the baseline."""
    able = [
        row
        for row in front
        if row.speedup is not None and row.loss is not None and row.loss <= floor + 1e-9 and row.speedup > NOISE
    ]
    return max(able, key=lambda row: row.speedup or 0.0) if able else None


def _latencies(bundles: dict[str, Bundle], threads: int) -> dict[str, float]:
    """All of them in turn, as each serves."""
    with ExitStack() as stack:
        callers = {}
        for name, bundle in bundles.items():
            engine = stack.enter_context(open_engine(bundle.folder, bundle.manifest.serving, Settings(threads)))
            callers[name] = caller(engine, bundle.read_arrays(SAMPLE)["inputs"])
        return in_turn_ms(callers)


def _with_figures(row: SearchRow, bundle: Bundle, latency_ms: dict[str, float], plain: str) -> SearchRow:
    manifest = bundle.manifest
    accuracy = manifest.accuracy
    return msgspec.structs.replace(
        row,
        precision=manifest.chosen,
        speedup=latency_ms[plain] / latency_ms[row.recipe],
        latency_ms=latency_ms[row.recipe],
        accuracy=accuracy.chosen if accuracy else None,
        loss=100 * (accuracy.fp32 - accuracy.chosen) if accuracy else None,
        size_bytes=manifest.serving.size_bytes,
        bundle=str(bundle.folder),
    )
