"""Rows as an aligned table of plain text, for stdout. Knows nothing of what the rows are about."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from io import StringIO

from toolchain.errors import printable

Columns = Mapping[str, str] | Sequence[str]
Draw = Callable[[Iterable[Sequence[object]], Columns], str]  # text as below, or a page's (report/page.py)
WIDTH = 100
LONGEST_NAME, LONGEST_VALUE = 50, 10  # characters; what is longer in a column may be wrapped
NOTHING = "-"


def table(rows: Iterable[Sequence[object]], columns: Columns) -> str:
    """`rows` under `columns`: headings (with their units), mapped to a format of their numbers (`{"p50, ms": ".2f"}`).

    Columns of numbers are right-aligned, None is shown as a dash, text is wrapped where a line would be longer than
    100 characters. No colour and no final newline. ValueError for a row with more or fewer cells than columns.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")
    cells = [list(row) for row in rows]
    texts = [[cell_text(cell, form) for cell, form in zip(row, formats.values(), strict=True)] for row in cells]
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(formats):
        numeric = all_numbers([row[place] for row in cells])
        longest = max(len(text) for text in (heading, *(row[place] for row in texts)))
        # a row is found by its name, and a value in pieces is hard to read: these are not broken
        one_word = place == 0 and not any(" " in row[place] for row in texts)
        whole = numeric or one_word or longest <= (LONGEST_NAME if place == 0 else LONGEST_VALUE)
        drawn.add_column(heading, justify="right" if numeric else "left", no_wrap=whole, overflow="fold")
    for row in texts:
        drawn.add_row(*row)
    page = StringIO()
    Console(file=page, width=WIDTH, color_system=None, markup=False, highlight=False, emoji=False).print(drawn)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def add_title(title: str, text: str) -> str:
    """A table, or several, under what it is about."""
    return f"{title}\n{'=' * len(title)}\n{text}"


def all_numbers(cells: Sequence[object]) -> bool:
    """Whether there is a number, and nothing but numbers and None."""
    present = [cell for cell in cells if cell is not None]
    return bool(present) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present)


def cell_text(cell: object, form: str) -> str:
    """A number in its column's format, None as a dash, the rest as it is but for control characters."""
    if cell is None:
        return NOTHING
    return format(cell, form) if isinstance(cell, int | float) and not isinstance(cell, bool) else printable(str(cell))
