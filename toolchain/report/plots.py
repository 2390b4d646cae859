"""The report's plots, each a matplotlib Figure, or None where there is no data.

The colours are close to those of Okabe and Ito (2008): distinguishable by colour-blind readers, and with a contrast of
3 to 1 at least on white and on the page's dark ground. What has a `tip` is a group with that title in an SVG: it is
shown under the pointer, and by the page's script where there is none.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO, StringIO
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.gate.selftest import Rate
from deploy.ledger.change_points import ReleaseChange
from deploy.ledger.history import HistoryRow
from toolchain.errors import UsageError
from toolchain.records.gate import BASELINE, CANDIDATE, Gate, Round
from toolchain.records.manifest import Candidate, StepRecord
from toolchain.records.storage import write_atomically

PlotT = TypeVar("PlotT")
PlotArguments = ParamSpec("PlotArguments")
ORANGE, BLUE, GREEN, PINK, GREY = "#C27C00", "#2F8FD0", "#00976E", "#C26A9C", "#808080"
SIDES = {CANDIDATE: ORANGE, BASELINE: BLUE}
SIZE = (4.8, 3.5)  # on a phone its text is as large as the page's small print
INK = "#010203"  # in an SVG it becomes the page's own text colour
DPI = 200
TIP = re.compile(r'<g id="tip:([^"]*)">')
STYLE: Any = {  # what matplotlib calls rcParams
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "grid.alpha": 0.25,
    "grid.color": GREY,
    "axes.grid": True,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.parse_math": False,  # a class may be called $5
    "svg.fonttype": "none",  # text stays text: it can be searched, and is drawn in the page's font
    "svg.hashsalt": "edge-toolchain",  # the same figures give the same file
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def apply_style(draw: Callable[PlotArguments, PlotT]) -> Callable[PlotArguments, PlotT]:
    """Matplotlib takes a colour that is not named from its settings at the time of drawing: texts, and ticks that are
    added later."""

    @wraps(draw)
    def draw_styled(*args: PlotArguments.args, **kwargs: PlotArguments.kwargs) -> PlotT:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def tip(text: str) -> str:
    """What an artist is given as `gid`."""
    return f"tip:{text}"


def svg(figure: Figure) -> str:
    """For a page: transparent, its text in the page's colour."""
    page = StringIO()
    with rc_context(STYLE):
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = page.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return TIP.sub(r'<g class="tip"><title>\1</title>', text)


def png(figure: Figure) -> bytes:
    page = BytesIO()
    with rc_context(STYLE):
        figure.savefig(page, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return page.getvalue()


def write_plot(figure: Figure, place: Path) -> str:
    """Write a plot as PNG or SVG, by the suffix of `place`; returns its path. UsageError for any other suffix."""
    if place.suffix not in (".png", ".svg"):
        raise UsageError(f"{place}: expected a name that ends in .png or .svg")
    write_atomically(place, png(figure) if place.suffix == ".png" else svg(figure).encode())
    return str(place)


def add_legend(axes: Axes) -> None:
    """Below the plot, where it covers nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=10)


def new_axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(SIZE)
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


@apply_style
def pareto(candidates: Sequence[Candidate], chosen: str) -> Figure | None:
    """Accuracy against latency; the area of a point is its size on disk, the line the Pareto front."""
    known = [
        (candidate.latency_ms, 100 * candidate.accuracy, candidate)
        for candidate in candidates
        if candidate.latency_ms and candidate.accuracy
    ]
    if not known:
        return None
    figure, axes = new_axes("Candidates", "median latency of one image, ms", "accuracy on the test split, %")
    biggest = max(candidate.size_bytes for _, _, candidate in known)
    for x, y, candidate in known:
        area = 40 + 400 * candidate.size_bytes / biggest
        colour = ORANGE if candidate.precision == chosen else BLUE
        label = f"{candidate.precision}, {candidate.size_bytes / 1e6:.2f} MB"
        axes.scatter(
            [x], [y], s=area, color=colour, alpha=0.9, linewidths=0, gid=tip(f"{label}: {x:.3g} ms, {y:.2f} %")
        )
        axes.annotate(label, (x, y), (0, 14), textcoords="offset points", ha="center", fontsize=10)
    best = [(x, y) for x, y, _ in known if not any(a <= x and b >= y and (a, b) != (x, y) for a, b, _ in known)]
    axes.plot(*zip(*sorted(best), strict=True), color=GREY, linewidth=1, zorder=0)
    axes.margins(y=0.35)
    axes.set_xlim(0, 1.3 * max(x for x, _, _ in known))
    return figure


@apply_style
def training(step: StepRecord) -> Figure | None:
    """Loss and accuracy against the epoch, side by side."""
    if not step.history:
        return None
    epochs = [epoch["epoch"] for epoch in step.history]
    figure = Figure(SIZE)
    left, right = figure.subplots(1, 2)
    for axes, key, factor, label, colour in (
        (left, "loss", 1, "loss", BLUE),
        (right, "accuracy_validate", 100, "validation accuracy, %", GREEN),
    ):
        axes.plot(epochs, [factor * epoch[key] for epoch in step.history], color=colour, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.locator_params(axis="x", integer=True)
    figure.suptitle(step.step, x=0.02, ha="left")
    return figure


@apply_style
def distributions(gate: Gate) -> Figure | None:
    """The cumulative distribution of latency (ECDF) of every release in the gate."""
    if not gate.rounds:
        return None
    figure, axes = new_axes("Latency of one image, all requests", "ms", "share of requests")
    colours = cycle((GREEN, PINK))
    for role, side in gate.sides.items():
        values = np.sort([ms for measured in gate.rounds for part in measured.latencies_ms[role] for ms in part])
        colour = SIDES.get(role) or next(colours)
        axes.plot(values, np.arange(1, len(values) + 1) / len(values), color=colour, label=f"{role} {side.release}")
    everything = [
        ms for measured in gate.rounds for parts in measured.latencies_ms.values() for part in parts for ms in part
    ]
    ends = np.quantile(everything, (0, 0.99))
    axes.set_xlim(ends[0] * 0.98, ends[1] * 1.02)
    add_legend(axes)
    return figure


@apply_style
def rounds(gate: Gate) -> Figure | None:
    """Each round's p50 of the candidate relative to the baseline: the values behind the verdict."""
    shown = [*gate.rounds, *gate.confirming]
    if not shown:
        return None
    figure, axes = new_axes("Candidate against baseline, one point per round", "round", "p50 worse by, %")
    worse = [100 * (_p50(measured, CANDIDATE) / _p50(measured, BASELINE) - 1) for measured in shown]
    first = len(gate.rounds)
    axes.scatter(range(1, first + 1), worse[:first], color=BLUE, label="first run")
    if gate.confirming:
        axes.scatter(range(first + 1, len(worse) + 1), worse[first:], color=ORANGE, label="second run")
    p50 = next((finding for finding in gate.findings if (finding.metric, finding.against) == ("p50", BASELINE)), None)
    axes.axhline(0, color=INK, linewidth=0.8)
    if p50:
        axes.axhline(100 * p50.margin, color=PINK, linestyle="--", label=f"margin, {100 * p50.margin:.1f} %")
    if p50 and p50.low is not None and p50.high is not None:
        axes.axhspan(100 * p50.low, 100 * p50.high, color=GREY, alpha=0.25, linewidth=0, label="98 % interval")
    axes.locator_params(axis="x", integer=True)
    add_legend(axes)
    return figure


def _p50(measured: Round, side: str) -> float:
    return float(np.median(np.concatenate(measured.latencies_ms[side])))


@apply_style
def trend(rows: Sequence[HistoryRow], changes: Sequence[ReleaseChange] = ()) -> Figure | None:
    """p50 of each report by release, oldest first, one line per device; dashed lines where the level changed."""
    known: dict[str, list[HistoryRow]] = {}
    for row in reversed(rows):
        if row.p50_ms is not None and row.device:
            known.setdefault(row.device, []).append(row)
    if not known:
        return None
    releases = list(dict.fromkeys(row.release for row in reversed(rows) if row.p50_ms is not None))
    figure, axes = new_axes("Releases", "release", "p50 (LoadGen SingleStream), ms")
    for (device, points), colour in zip(known.items(), cycle((BLUE, GREEN, PINK, ORANGE)), strict=False):
        places = [releases.index(row.release) for row in points]
        axes.plot(places, [row.p50_ms or 0.0 for row in points], color=colour, marker="o", label=device)
        for place, row in zip(places, points, strict=True):
            words = f"{row.release}, {row.precision}: {row.p50_ms:.3g} ms on {device}"
            axes.plot([place], [row.p50_ms or 0.0], color=colour, marker="o", gid=tip(words))
    for place in {releases.index(change.began) for change in changes if change.began in releases}:
        axes.axvline(place - 0.5, color=GREY, linestyle="--")
    axes.set_xticks(range(len(releases)), releases)
    axes.set_ylim(bottom=0)
    add_legend(axes)
    return figure


@apply_style
def power(rates: Sequence[Rate]) -> Figure:
    """The share of gates with the verdict regressed by injected slowdown, with its 95 % interval."""
    figure, axes = new_axes("The gate's own error rate", "candidate slower by, %", "gates with verdict regressed, %")
    x, y = [100 * rate.slower for rate in rates], [100 * rate.regressed for rate in rates]
    errors = [
        [max(0.0, a - 100 * rate.low) for a, rate in zip(y, rates, strict=True)],
        [max(0.0, 100 * rate.high - a) for a, rate in zip(y, rates, strict=True)],
    ]
    axes.errorbar(x, y, yerr=errors, color=BLUE, marker="o", capsize=3)
    axes.set_ylim(-3, 103)
    return figure


def _present_figures(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    """The figures that are not None."""
    return {name: figure for name, figure in figures.items() if figure is not None}
