"""The report as one HTML file (report.html.jinja) with its plots, images, style and script; nothing is fetched.

Readable on a phone, in light and dark mode, on paper, and where no script may run: the script only sorts tables and
shows the tips of plots where there is no pointer. The page's own policy lets a browser load and run nothing else.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from toolchain.accuracy.kept import KeptEvaluation
from toolchain.report.content import ReportContent
from toolchain.report.plots import svg
from toolchain.report.quality_tables import (
    calibration_sentence,
    classes_table,
    confusions_table,
    contact_sheet,
    counts_table,
    mistake_images,
)
from toolchain.report.release_changes import compare_releases, diff_recipes
from toolchain.tables import Columns, all_numbers, cell_text
from toolchain.views.bundle import candidates_table, history_table, manifest_facts, parity_table
from toolchain.views.gate import findings_table, heading
from toolchain.views.steps import reasons, steps_page

SCROLLED = 'tabindex="0" role="region"'  # what scrolls must be reached by the keyboard too
TABLE = """<div class="scroll" {{ scrolled }} aria-label="{{ heads[0][0] or "table" }}"><table class="{{ kind }}">
<thead><tr>
{%- for name, kind in heads %}<th{{ kind }}>{{ name }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr>{% for head, kind, text in row %}<td{{ kind }} data-head="{{ head }}">{{ text }}</td>
{%- endfor %}</tr>{% endfor -%}
</tbody></table></div>"""
NUMBER = Markup(' class="number"')
WIDE = 36  # letters: what is wider does not fit on a phone, where each row becomes a card
FACTS = 2  # columns: a name and its value, which may be one long word
SORTED_ROWS, SORTED_COLUMNS = 5, 3  # from here on, a table can be sorted


@cache
def template_environment() -> Environment:
    """Of the pages of this package."""
    return Environment(loader=PackageLoader("toolchain.report", "."), autoescape=True, undefined=StrictUndefined)


@cache
def _table() -> Template:
    return template_environment().from_string(TABLE)


@cache
def _script() -> str:
    return (files("toolchain.report") / "report.js").read_text()


def page(content: ReportContent, figures: Mapping[str, Figure]) -> str:
    """The HTML document."""
    manifest, gate, seen = content.manifest, content.gate, content.seen
    measured = any(step.measured_speedup is not None for step in manifest.steps)
    return (
        template_environment()
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
            scrolled=Markup(SCROLLED),
            seen=seen.record if seen else None,
            quality=_quality(seen) if seen else {},
            previous=content.previous,
            differences=Markup(_differences(content)),
            recipe_diff=diff_recipes(content.previous, manifest) if content.previous else "",
            script=Markup(_script()),
            script_digest=b64encode(sha256(_script().encode()).digest()).decode(),
        )
    )


def _quality(seen: KeptEvaluation) -> dict[str, object]:
    """What the template says of the data and of what was got right of it."""
    return {
        "classes": Markup(classes_table(seen, table)),
        "confusions": Markup(confusions_table(seen, table)),
        "calibration": calibration_sentence(seen),
        "mistakes": mistake_images(seen),
        "counts": Markup(counts_table(seen, table)),
        "sheet": contact_sheet(seen),
    }


def _differences(content: ReportContent) -> str:
    if content.previous is None:
        return ""
    rows = compare_releases(content.previous, content.manifest)
    columns = ("what", f"release {content.previous.release}", f"release {content.manifest.release}", "difference")
    return table(rows, columns) if rows else ""


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
    heads = list(zip(formats, kinds, strict=True))
    lines = [
        [
            (name, kind, cell_text(cell, form))
            for cell, form, (name, kind) in zip(row, formats.values(), heads, strict=True)
        ]
        for row in cells
    ]
    can_sort = len(lines) >= SORTED_ROWS and len(heads) >= SORTED_COLUMNS
    shape = "facts" if len(heads) <= FACTS else "wide" if _letters(lines) > WIDE else ""
    kind = " ".join([shape] * bool(shape) + ["sorted"] * can_sort)
    drawn = _table().render(heads=heads, rows=lines, kind=kind, scrolled=Markup(SCROLLED))
    return drawn.replace("\n", " ")


def _letters(lines: Sequence[Sequence[tuple[str, str, str]]]) -> int:
    """How wide a table is at least: its widest cells, and the longest word of each heading."""
    columns = zip(*lines, strict=True) if lines else ()
    return sum(
        2 + max(*(len(text) for _, _, text in column), *map(len, f"{column[0][0]} -".split())) for column in columns
    )
