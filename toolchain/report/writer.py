"""A release's report as files: report.html, summary.md, and each plot as SVG and PNG."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from toolchain.errors import UsageError
from toolchain.records.gate import Gate
from toolchain.records.storage import atomic_folder, write_atomically
from toolchain.report.content import ReportContent
from toolchain.report.html import page
from toolchain.report.plots import _present_figures, distributions, pareto, png, rounds, svg, training, trend
from toolchain.tables import Columns, cell_text
from toolchain.views.gate import findings_table, heading

PAGE = "report.html"
# a list of checks is read by its signs
SIGNS = {"passed": "✅", "regressed": "❌", "inconclusive": "⚠️", "not comparable": "⚠️"}


def write_report(told: ReportContent, folder: Path) -> dict[str, str]:
    """Write everything into `folder`, whole or not at all; the paths by what they are. UsageError for a folder that
    holds something else than an earlier report."""
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]) and not (folder / PAGE).is_file():
        raise UsageError(f"--out={folder}: holds something else than a report; name a new folder")
    figures = draw_plots(told)
    with atomic_folder(folder) as temporary:
        write_atomically(temporary / PAGE, page(told, figures).encode())
        write_atomically(temporary / "summary.md", summary(told).encode())
        for name, figure in figures.items():
            write_atomically(temporary / f"{name}.svg", svg(figure).encode())
            write_atomically(temporary / f"{name}.png", png(figure))
    return {"report": str(folder / PAGE), "summary": str(folder / "summary.md")} | {
        name: str(folder / f"{name}.png") for name in figures
    }


def draw_plots(told: ReportContent) -> dict[str, Figure]:
    """Every plot that there is something to draw of."""
    made, gate = told.manifest, told.gate
    return _present_figures(
        {
            "distributions": distributions(gate) if gate else None,
            "rounds": rounds(gate) if gate else None,
            "pareto": pareto(made.candidates, made.chosen),
            **{f"training-{number}": training(step) for number, step in enumerate(made.steps)},
            "trend": trend(told.history, told.changes),
        }
    )


def summary(told: ReportContent) -> str:
    """For a pull request, in GitHub's and GitLab's Markdown."""
    made = told.manifest
    parts = [f"### {made.name} {made.release} for {made.target}"]
    parts += _gate(told.gate) if told.gate else ["Not judged: no gate of it in the ledger."]
    accuracy = f", {made.accuracy.chosen:.2%} top-1 ({made.accuracy.fp32:.2%} in fp32)" if made.accuracy else ""
    parts.append(f"Serves {made.choice}; {made.serving.size_bytes / 1e6:.2f} MB{accuracy}.")
    return "\n\n".join(parts) + "\n"


def _gate(gate: Gate) -> list[str]:
    said = f"{SIGNS[gate.verdict]} **{gate.verdict}**: {gate.reason}"
    return [said, findings_table(gate, _markdown), heading(gate)] if gate.findings else [said]


def _markdown(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """toolchain.tables.table in Markdown."""
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    lines = [list(formats), ["---"] * len(formats)]
    lines += [[cell_text(cell, form) for cell, form in zip(row, formats.values(), strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
