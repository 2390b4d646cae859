"""The report as one HTML file (report.html.jinja): tables, plots and style inside it, no script, nothing fetched.
Readable on a phone, on light and on dark, and on paper."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from toolchain.report.content import ReportContent
from toolchain.report.plots import svg
from toolchain.tables import Columns, all_numbers, cell_text
from toolchain.views.bundle import candidates_table, history_table, manifest_facts, parity_table
from toolchain.views.gate import findings_table, heading
from toolchain.views.steps import reasons, steps_page

TABLE = """<div class="scroll"><table><thead><tr>
{%- for name, kind in heads %}<th{{ kind }}>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr>{% for text, kind in row %}<td{{ kind }}>{{ text }}</td>{% endfor %}</tr>{% endfor -%}
</tbody></table></div>"""
NUMBER = Markup(' class="number"')


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("toolchain.report", "."), autoescape=True, undefined=StrictUndefined)


@cache
def _table() -> Template:
    return _environment().from_string(TABLE)


def page(told: ReportContent, figures: Mapping[str, Figure]) -> str:
    """The whole file."""
    made, gate = told.manifest, told.gate
    measured = any(step.measured_speedup is not None for step in made.steps)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=f"{made.name} {made.release} for {made.target}",
            manifest=made,
            bundle=told.bundle,
            gate=gate,
            heading=heading(gate) if gate else "",
            findings=Markup(findings_table(gate, table)) if gate and gate.findings else "",
            candidates=Markup(candidates_table(made, table)),
            steps=Markup(steps_page(made.steps, made.target, table).partition("\n")[0]) if measured else "",
            reasons=list(reasons(made.steps, "")) if measured else [],
            training=[name for name in figures if name.startswith("training")],
            parity=Markup(parity_table(made, table)) if made.parity else "",
            history=Markup(history_table(told.history, table)),
            changes=told.changes,
            facts=Markup(manifest_facts(made, table)),
            device=Markup(_device(told)),
            plots={name: Markup(svg(figure)) for name, figure in figures.items()},
        )
    )


def _device(told: ReportContent) -> str:
    device = told.gate.fingerprint if told.gate else None
    if device is None:
        return ""
    facts = [(name.replace("_", " "), _fact(value)) for name, value in msgspec.structs.asdict(device).items()]
    return table(facts, ("fact", "here"))


def _fact(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "not readable there" if value in ("", None) else str(value)


def table(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """toolchain.tables.table for a page, on one line: steps_page ends its table with a line break."""
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    cells = [list(row) for row in rows]
    kinds = [NUMBER if all_numbers([row[place] for row in cells]) else "" for place in range(len(formats))]
    lines = [
        [(cell_text(cell, form), kind) for cell, form, kind in zip(row, formats.values(), kinds, strict=True)]
        for row in cells
    ]
    return _table().render(heads=list(zip(formats, kinds, strict=True)), rows=lines).replace("\n", " ")
