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
from toolchain.report.quality_plots import confusion, reliability
from toolchain.report.quality_tables import before_and_after
from toolchain.tables import Columns, cell_text
from toolchain.views.gate import findings_table, heading

PAGE = "report.html"
# readers scan a list of checks by these signs
SIGNS = {"passed": "✅", "regressed": "❌", "inconclusive": "⚠️", "not comparable": "⚠️"}


def write_report(content: ReportContent, folder: Path) -> dict[str, str]:
    """Write all files into `folder` atomically; returns their paths by kind. UsageError for a folder that holds
    anything but an earlier report."""
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]) and not (folder / PAGE).is_file():
        raise UsageError(f"--out={folder}: is not a report's folder; name a new folder")
    figures = draw_plots(content)
    with atomic_folder(folder) as temporary:
        write_atomically(temporary / PAGE, page(content, figures).encode())
        write_atomically(temporary / "summary.md", summary(content).encode())
        for name, figure in figures.items():
            write_atomically(temporary / f"{name}.svg", svg(figure).encode())
            write_atomically(temporary / f"{name}.png", png(figure))
    return {"report": str(folder / PAGE), "summary": str(folder / "summary.md")} | {
        name: str(folder / f"{name}.png") for name in figures
    }


def draw_plots(content: ReportContent) -> dict[str, Figure]:
    """Every plot for which there is data."""
    manifest, gate = content.manifest, content.gate
    return _present_figures(
        {
            "distributions": distributions(gate) if gate else None,
            "rounds": rounds(gate) if gate else None,
            "pareto": pareto(manifest.candidates, manifest.chosen),
            **_quality_plots(content),
            **{f"training-{number}": training(step) for number, step in enumerate(manifest.steps)},
            "trend": trend(content.history, content.changes),
        }
    )


def _quality_plots(content: ReportContent) -> dict[str, Figure | None]:
    if content.seen is None:
        return {}
    record = content.seen.record
    quality = record.precisions.get(record.chosen)
    return {
        "confusion": confusion(quality, record.classes) if quality else None,
        "calibration": reliability(before_and_after(record)),
    }


def summary(content: ReportContent) -> str:
    """For a pull request, in GitHub's and GitLab's Markdown."""
    manifest = content.manifest
    parts = [f"### {manifest.name} {manifest.release} for {manifest.target}"]
    parts += _gate(content.gate) if content.gate else ["No gate: the ledger has none for this release."]
    accuracy = (
        f", {manifest.accuracy.chosen:.2%} {manifest.measure} ({manifest.accuracy.fp32:.2%} in fp32)"
        if manifest.accuracy
        else ""
    )
    parts.append(f"Serves {manifest.choice}; {manifest.serving.size_bytes / 1e6:.2f} MB{accuracy}.")
    return "\n\n".join(parts) + "\n"


def _gate(gate: Gate) -> list[str]:
    sentence = f"{SIGNS[gate.verdict]} **{gate.verdict}**: {gate.reason}"
    return [sentence, findings_table(gate, _markdown), heading(gate)] if gate.findings else [sentence]


def _markdown(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """toolchain.tables.table in Markdown."""
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    lines = [list(formats), ["---"] * len(formats)]
    lines += [[cell_text(cell, form) for cell, form in zip(row, formats.values(), strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
