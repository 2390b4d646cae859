"""The output of every `make bench-…`: a table and one JSON line of rows, each compared with its bound."""

import logging
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from toolchain.tables import table

logger = logging.getLogger(__name__)
RowT = TypeVar("RowT")

HOLDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


class Row(msgspec.Struct, frozen=True):
    """value: measured in this run, None if it could not be; bound: as text."""

    what: str
    value: float | None
    bound: str
    holds: bool
    note: str = ""


def row(what: str, value: float | None, relation: str, bound: float, unit: str, note: str = "") -> Row:
    """A row that holds when `value relation bound`; a value that could not be measured never holds."""
    holds = value is not None and HOLDS[relation](value, bound)
    return Row(what, value, f"{relation} {bound:g} {unit}".strip(), holds, note)


def guarded_rows(what: str, make: Callable[[], Iterable[RowT]]) -> list[RowT | Row]:
    """What a group measures, as far as it got. An error ends the group with a row that fell short, named `what`, and
    the bench goes on."""
    rows: list[RowT | Row] = []
    try:
        for made in make():
            rows.append(made)  # extend() would lose those before an error
            if isinstance(made, Row):
                logger.info(f"{made.what}: {made.value} ({made.bound}): {_state(made)}")
    except Exception as error:
        logger.exception(what)
        rows.append(Row(what, None, "measured", False, " ".join(f"{type(error).__name__}: {error}".split())))
    return rows


def _state(row: Row) -> str:
    if row.value is None:
        return "NOT MEASURED"
    return "holds" if row.holds else "FALLS SHORT"


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table, and the JSON document as the last line. The exit status stays 0 when a row falls short."""
    cells = [(row.what, row.value, row.bound, _state(row)) for row in rows]
    print(table(cells, {"what": "", "value": ",.4g", "bound": "", "": ""}), end="\n\n")
    for row in rows:
        if row.note:  # below the table, where long notes have the full width
            print(f"{row.what}: {row.note}\n")
    print(msgspec.json.encode({"rows": rows}).decode())
