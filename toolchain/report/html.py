"""The report as one HTML file (report.html.jinja): tables, plots and style in one file, no script, nothing fetched.
Readable on a phone, in light and dark mode, and on paper."""

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


def page(content: ReportContent, figures: Mapping[str, Figure]) -> str:
    """The HTML document."""
    manifest, gate = content.manifest, content.gate
    measured = any(step.measured_speedup is not None for step in manifest.steps)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=f"{manifest.name} {manifest.release} for {manifest.target}",
            manifest=manifest,
            bundle=content.bundle,
            gate=gate,
            heading=heading(gate) if gate else "",
            findings=Markup(findings_table(gate, table)) if gate and gate.findings else "",
            candidates=Markup(candidates_table(manifest, table)),
            steps=Markup(steps_page(manifest.steps, manifest.target, manifest.measure, table).partition("\n")[0])
            if measured
            else "",
            reasons=list(reasons(manifest.steps, "")) if measured else [],
            training=[name for name in figures if name.startswith("training")],
            parity=Markup(parity_table(manifest, table)) if manifest.parity else "",
            history=Markup(history_table(content.history, table)),
            changes=content.changes,
            facts=Markup(manifest_facts(manifest, table)),
            device=Markup(_device(content)),
            plots={name: Markup(svg(figure)) for name, figure in figures.items()},
        )
    )


def _device(content: ReportContent) -> str:
    device = content.gate.fingerprint if content.gate else None
    if device is None:
        return ""
    facts = [(name.replace("_", " "), _fact(value)) for name, value in msgspec.structs.asdict(device).items()]
    return table(facts, ("fact", "here"))


def _fact(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "cannot be read there" if value in ("", None) else str(value)


def table(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """Like toolchain.tables.table, as HTML on a single line: steps_page separates its table by a line break."""
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    cells = [list(row) for row in rows]
    kinds = [NUMBER if all_numbers([row[place] for row in cells]) else "" for place in range(len(formats))]
    lines = [
        [(cell_text(cell, form), kind) for cell, form, kind in zip(row, formats.values(), kinds, strict=True)]
        for row in cells
    ]
    return _table().render(heads=list(zip(formats, kinds, strict=True)), rows=lines).replace("\n", " ")
