"""The report as one HTML file: tables, plots and style inside it, no script, nothing fetched. Readable on a phone, on
light and on dark, and on paper."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import msgspec
from matplotlib.figure import Figure

from toolchain.report.content import Told
from toolchain.report.plots import svg
from toolchain.tables import Columns, all_numbers, cell_text
from toolchain.views.bundle import candidates_table, history_table, manifest_facts, parity_table
from toolchain.views.gate import findings_table, heading
from toolchain.views.steps import reasons, steps_page

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --faint: #6b6b6b; --line: #d8d8d8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --faint: #9a9a9a; --line: #3a3d44; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; margin: 0.5rem 0; }
th, td { text-align: left; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th, td { white-space: nowrap; } td:last-child { white-space: normal; min-width: 11rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } figure svg { width: 100%; height: auto; color: var(--ink); font-family: inherit; }
figure svg text { font-family: system-ui, sans-serif !important; }
.verdict { display: inline-block; padding: 0.15rem 0.6rem; border-radius: 0.3rem; font-weight: 600; color: #fff; }
.passed { background: #00674d; } .regressed { background: #a02c00; } .inconclusive, .not { background: #6b5600; }
.faint { color: var(--faint); } code { overflow-wrap: anywhere; }
"""
METHOD = (
    "Releases in a gate run on one device in turn (A B B A), in new containers each round; a round is one value, the "
    "log-ratio of both sides in it. Intervals are the percentile bootstrap's of the trimmed mean over rounds at 98 %. "
    "Regressed means: the interval lies above the margin, a sign-flip test of that has p < 0.01 after Holm over all "
    "figures, and a second run found the same. The margin is the budget, or what equal releases "
    "differ by on this device if that is more. Percentiles are told only with the samples that MLPerf asks for: "
    "p90 64, p99 662."
)


def page(told: Told, figures: Mapping[str, Figure]) -> str:
    """The whole file."""
    made = told.manifest
    title = f"{escape(made.name)} {escape(made.release)} for {escape(made.target)}"
    body = "".join((_head(told, title), _judged(told, figures), _made(told, figures), _known(told, figures)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>\n{body}</body></html>\n"
    )


def _head(told: Told, title: str) -> str:
    made = told.manifest
    verdict = ""
    if told.gate:
        kind = told.gate.verdict.partition(" ")[0]
        verdict = f'<p><span class="verdict {kind}">{told.gate.verdict}</span> {escape(told.gate.reason)}</p>'
    return f"<h1>{title}</h1>\n{verdict}<p>Serves {escape(made.choice)}</p>\n"


def _judged(told: Told, figures: Mapping[str, Figure]) -> str:
    gate = told.gate
    if gate is None:
        return '<h2>Gate</h2><p class="faint">Not judged yet: toolchain gate</p>\n'
    drawn = findings_table(gate, table) if gate.findings else ""
    return f"<h2>Gate</h2><p>{escape(heading(gate))}</p>{drawn}{_shown(figures, 'distributions', 'rounds')}"


def _made(told: Told, figures: Mapping[str, Figure]) -> str:
    made = told.manifest
    parts = ["<h2>Candidates</h2>", candidates_table(made, table), _shown(figures, "pareto")]
    if any(step.measured_speedup is not None for step in made.steps):
        drawn = steps_page(made.steps, made.target, table).partition("\n")[0]
        said = "".join(f"<li>{escape(line)}</li>" for line in reasons(made.steps, ""))
        parts += ["<h2>What each step promised, and what was measured</h2>", drawn, f"<ul>{said}</ul>" if said else ""]
    trained = [name for name in figures if name.startswith("training")]
    if trained:
        parts += ["<h2>Training</h2>", _shown(figures, *trained)]
    if made.parity:
        parts += ["<h2>Do all ways of running it agree?</h2>", parity_table(made, table)]
    return "".join(parts)


def _known(told: Told, figures: Mapping[str, Figure]) -> str:
    warnings = [f"<p>{escape(one.sentence)}</p>" for one in told.changes]
    parts = ["<h2>Releases</h2>", history_table(told.history, table), _shown(figures, "trend"), *warnings]
    parts += ["<h2>The release</h2>", manifest_facts(told.manifest, table)]
    device = told.gate.fingerprint if told.gate else None
    if device:
        facts = [(name.replace("_", " "), _fact(value)) for name, value in msgspec.structs.asdict(device).items()]
        parts += ["<h2>The device that judged</h2>", table(facts, ("fact", "here"))]
    parts += ["<h2>Method</h2>", f"<p>{METHOD}</p>", f'<p class="faint">bundle <code>{told.bundle}</code></p>\n']
    return "".join(parts)


def _fact(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "not readable there" if value in ("", None) else str(value)


def _shown(figures: Mapping[str, Figure], *names: str) -> str:
    found = [figures[name] for name in names if name in figures]
    return "".join(f"<figure>{svg(figure)}</figure>\n" for figure in found)


def table(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """toolchain.tables.table for a page."""
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    cells = [list(row) for row in rows]
    numeric = [all_numbers([row[place] for row in cells]) for place in range(len(formats))]
    kinds = [' class="number"' if one else "" for one in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(formats, kinds, strict=True))
    lines = []
    for row in cells:
        texts = [escape(cell_text(cell, form)) for cell, form in zip(row, formats.values(), strict=True)]
        inside = "".join(f"<td{kind}>{text}</td>" for kind, text in zip(kinds, texts, strict=True))
        lines.append(f"<tr>{inside}</tr>")
    body = "".join(lines)  # without line breaks: steps_page puts its own between a table and the reasons
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
