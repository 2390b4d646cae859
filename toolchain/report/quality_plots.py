"""Plots of what a release gets right: which classes are taken for which, and whether it is as sure as it is right."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from toolchain.accuracy.quality import Quality
from toolchain.report.plots import BLUE, GREY, ORANGE, SIZE, add_legend, apply_style, new_axes, tip

MOST_CLASSES = 20  # more cells than these cannot be read: the table of confusions says the same
MOST_LETTERS = 12
DARKEST = 0.5  # of a cell's colour, under text that has the page's
NUMBERED = 12


@apply_style
def confusion(quality: Quality, names: Sequence[str]) -> Figure | None:
    """True classes downwards, predicted ones across; a cell's shade is its share of the true class's images."""
    count = len(quality.classes)
    if not quality.confusion or count > MOST_CLASSES:
        return None
    figure = Figure((SIZE[0], max(SIZE[1], 0.9 + count * 0.36)))
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.set_title(f"Confusion on {quality.images:,} test images", loc="left")
    for true, predicted, images in quality.confusion:
        share = images / quality.classes[true].images
        colour = BLUE if true == predicted else ORANGE
        words = f"{names[true]} taken for {names[predicted]}: {images} of {quality.classes[true].images} images"
        at = (predicted - 0.5, true - 0.5)
        axes.add_patch(Rectangle(at, 1, 1, color=colour, alpha=DARKEST * share**0.5, linewidth=0, gid=tip(words)))
        if count <= NUMBERED:
            axes.text(predicted, true, str(images), ha="center", va="center", fontsize=10, gid=tip(words))
    shown = [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…" for name in names]
    axes.set_xticks(range(count), shown, rotation=90)
    axes.set_yticks(range(count), shown)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


@apply_style
def reliability(precisions: Sequence[tuple[str, Quality]]) -> Figure | None:
    """Accuracy against probability in bins; on the diagonal a model is as sure as it is right. The area of a point is
    the number of its predictions."""
    known = [(name, quality, quality.ece) for name, quality in precisions if quality.ece is not None]
    if not known:
        return None
    figure, axes = new_axes("Calibration", "probability that it gave, %", "right, %")
    axes.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    for (name, quality, error), colour in zip(known, (BLUE, ORANGE), strict=False):
        total = sum(one.count for one in quality.bins)
        x, y = [100 * one.confidence for one in quality.bins], [100 * one.accuracy for one in quality.bins]
        axes.plot(x, y, color=colour, linewidth=1, label=f"{name}, ECE {100 * error:.1f} %")
        for bin_, across, up in zip(quality.bins, x, y, strict=True):
            words = f"{name}: {bin_.count} predictions at {across:.1f} %, {up:.1f} % right"
            axes.scatter([across], [up], s=12 + 120 * bin_.count / total, color=colour, gid=tip(words))
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    add_legend(axes)
    return figure
