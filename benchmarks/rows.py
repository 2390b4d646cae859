"""What every `make bench-…` ends with: a table, and one JSON line of rows, each held against its bound."""

import operator
from collections.abc import Callable, Sequence

import msgspec

from toolchain.tables import table

HOLDS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


class Row(msgspec.Struct, frozen=True):
    """value: measured in this run, None when it could not be; bound: in words."""

    what: str
    value: float | None
    bound: str
    holds: bool
    note: str = ""


def row(what: str, value: float | None, relation: str, bound: float, unit: str, note: str = "") -> Row:
    """A row that holds when `value relation bound`; a value that could not be measured never holds."""
    holds = value is not None and HOLDS[relation](value, bound)
    return Row(what, value, f"{relation} {bound:g} {unit}".strip(), holds, note)


def _verdict(one: Row) -> str:
    if one.value is None:
        return "NOT MEASURED"
    return "holds" if one.holds else "FALLS SHORT"


def print_rows(rows: Sequence[Row]) -> None:
    """The table, and the document as the last line. A row that falls short says so; the exit status stays 0."""
    shown = [(one.what, one.value, one.bound, _verdict(one)) for one in rows]
    print(table(shown, {"what": "", "value": ",.4g", "bound": "", "": ""}), end="\n\n")
    for one in rows:
        if one.note:  # under the table: beside it, long ones would be a word wide
            print(f"{one.what}: {one.note}\n")
    print(msgspec.json.encode({"rows": rows}).decode())
