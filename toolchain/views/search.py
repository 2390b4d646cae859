"""A search as text: the front while it runs, and what it found. Computes nothing."""

from collections.abc import Mapping, Sequence

from toolchain.search.record import SearchPoint, SearchRecord, SearchRow
from toolchain.tables import Draw, table
from toolchain.views.steps import steps_page

MB = 1e6
ROW = {
    "recipe": "",
    "in": "",
    "times as fast": ".2f",
    "in the search": ".2f",
    "p50, ms": ".3f",
    "accuracy": ".2%",
    "points lost": ".2f",
    "file, MB": ".2f",
}
POINT = {"trial": "d", "times as fast": ".2f", "points lost": "", "epochs": "d", "in the end": "", "what": ""}


def front_table(points: Sequence[SearchPoint], draw: Draw = table) -> str:
    """The recipes on the front so far, the fastest first."""
    rows = [
        (point.trial, point.speedup, _with_error(point.loss, point.error), point.epochs, _foretold(point), point.what)
        for point in points
        if point.is_front
    ]
    return draw(rows, POINT)


def search_table(record: SearchRecord, draw: Draw = table) -> str:
    """The recipes of the front as they were built."""
    return draw([_cells(row) for row in (record.baseline, *record.front)], ROW)


def row_lines(record: SearchRecord) -> list[str]:
    """What was done in each recipe, which is too long for a cell, and why it has no figures."""
    rows = (record.baseline, *record.front)
    return [f"{row.recipe}: {row.what}{f'; not built: {row.absent}' if row.absent else ''}" for row in rows]


def search_page(record: SearchRecord) -> str:
    """What `toolchain search` prints."""
    parts = [search_table(record), "\n".join(row_lines(record)), record.sentence]
    if record.best is not None and record.steps:
        parts.append(f"what each step of {record.best.recipe} brought, measured:")
        parts.append(steps_page(record.steps, record.target, "accuracy"))
    parts.append(cost_sentence(record))
    return "\n\n".join(parts)


def cost_sentence(record: SearchRecord) -> str:
    cost = record.cost
    before = f" after {cost.hours_before:.2f} in earlier runs" if cost.hours_before else ""
    impossible = f", {cost.impossible} impossible" if cost.impossible else ""
    return (
        f"cost: {cost.hours:.2f} hours{before}; {cost.trained} recipes trained, {cost.trained_further} times further, "
        f"{cost.epochs} epochs; {cost.untrained} left out by their speed{impossible}"
    )


def _cells(row: SearchRow) -> tuple[object, ...]:
    return (
        row.recipe,
        row.precision or None,
        row.speedup,
        row.searched_speedup,
        row.latency_ms,
        row.accuracy,
        row.loss,
        None if row.size_bytes is None else row.size_bytes / MB,
    )


def _with_error(value: float | None, error: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"


def _foretold(point: SearchPoint) -> str | None:
    return None if point.foretold is None else f"about {_with_error(point.foretold, point.foretold_error)}"


def search_summary(record: SearchRecord, written: Mapping[str, str]) -> dict[str, object]:
    """The last line of stdout. written: the page and the plots."""
    return {
        "name": record.name,
        "target": record.target,
        "max_accuracy_loss": record.floor,
        "best": record.best,
        "baseline": record.baseline,
        "front": record.front,
        "cost": record.cost,
        "study": record.study,
        "storage": record.storage,
        "folder": record.folder,
        **written,
    }
