"""A search as files: search.html with the plot and the tables, and the plot as SVG and PNG."""

from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from toolchain.records.storage import write_atomically
from toolchain.report.html import table, template_environment
from toolchain.report.plots import BLUE, GREEN, GREY, ORANGE, add_legend, apply_style, new_axes, png, svg, tip
from toolchain.search.record import SearchPoint, SearchRecord
from toolchain.views.search import cost_sentence, front_table, row_lines, search_table
from toolchain.views.steps import steps_page

PAGE, PLOT = "search.html", "search"


@apply_style
def search_plot(record: SearchRecord) -> Figure | None:
    """Points lost against speed: all recipes that were trained, on validation images, and those that were built, on the
    test split. None where nothing was trained."""
    trained = [point for point in record.points if point.loss is not None]
    if not trained:
        return None
    figure, axes = new_axes("Recipes found", "times as fast as the uncut net", "points of accuracy lost")
    for points, colour, label in (
        ([point for point in trained if not point.is_front], GREY, "trained"),
        ([point for point in trained if point.is_front], BLUE, "on the front"),
    ):
        for number, point in enumerate(points):
            axes.scatter(
                [point.speedup],
                [point.loss or 0.0],
                color=colour,
                s=28,
                label=label if not number else None,
                gid=tip(_tip(point)),
            )
    built = [row for row in record.front if row.speedup is not None and row.loss is not None]
    for number, row in enumerate(built):
        gid = tip(f"built: {row.what}: {row.speedup:.2f} times, {row.loss:.2f} points")
        named = None if number else "built, on test images"
        axes.scatter([row.speedup or 0.0], [row.loss or 0.0], color=ORANGE, marker="D", s=36, label=named, gid=gid)
    axes.axhline(record.floor, color=GREEN, linestyle="--", label=f"may be lost: {record.floor:g}")
    add_legend(axes)
    return figure


def write_search(record: SearchRecord) -> dict[str, str]:
    """Write the page and the plot beside the recipes; their paths by kind."""
    folder = Path(record.folder)
    figure = search_plot(record)
    page = (
        template_environment()
        .get_template("search.html.jinja")
        .render(
            title=f"Recipes for {record.name} on {record.target}",
            sentence=record.sentence,
            plot=Markup(svg(figure)) if figure else "",
            built=Markup(search_table(record, table)),
            lines=row_lines(record),
            best=record.best.recipe if record.best else "",
            steps=Markup(steps_page(record.steps, record.target, "accuracy", table)) if record.steps else "",
            front=Markup(front_table(record.points, table)) if figure else "",
            left_out=record.left_out,
            cost=cost_sentence(record),
        )
    )
    write_atomically(folder / PAGE, page.encode())
    written = {"page": str(folder / PAGE)}
    if figure is not None:
        for kind, content in (("svg", svg(figure).encode()), ("png", png(figure))):
            place = folder / f"{PLOT}.{kind}"
            write_atomically(place, content)
            written[kind] = str(place)
    return written


def _tip(point: SearchPoint) -> str:
    return f"trial {point.trial}: {point.what}: {point.speedup:.2f} times, {point.loss:.2f} points"
