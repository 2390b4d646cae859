"""A gate as text: a row for each figure, the verdict in a sentence. Knows how it looks; computes nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolchain.records.gate import BASELINE, CANDIDATE, Finding, Gate
from toolchain.tables import Draw, table

if TYPE_CHECKING:
    from deploy.gate.selftest import Rate

COLUMNS = {"figure": "", "verdict": "", "worse by": "", "98 % interval": "", "budget": "", "p": ".4f", "": ""}


def gate_page(gate: Gate) -> str:
    """The candidate against every other release in the gate."""
    drawn = findings_table(gate) if gate.findings else ""
    return "\n\n".join(part for part in (heading(gate), drawn, f"{gate.verdict}: {gate.reason}") if part)


def heading(gate: Gate) -> str:
    """Who played, and for how long."""
    mine = gate.sides[CANDIDATE]
    others = ", ".join(f"{role} {one.release}" for role, one in gate.sides.items() if role != CANDIDATE)
    rounds = f"{len(gate.rounds)} rounds" + (f" and {len(gate.confirming)} confirming" if gate.confirming else "")
    return f"{mine.name} {mine.release} ({mine.precision}) against {others}: {rounds}, {gate.seconds:.0f} s"


def findings_table(gate: Gate, draw: Draw = table) -> str:
    """A row for each figure."""
    return draw([_row(one, gate.floors.get(one.metric, 0.0)) for one in gate.findings], COLUMNS)


def _row(one: Finding, floor: float) -> tuple[object, ...]:
    unit = "points" if one.metric == "accuracy" else "%"
    known = one.low is not None and one.high is not None
    return (
        one.metric if one.against == BASELINE else f"{one.metric} ({one.against})",
        one.verdict or "not judged",
        None if one.change is None else f"{_share(one.change)} {unit}",
        f"{_share(one.low)} .. {_share(one.high)}" if known else None,
        f"{100 * one.margin:.1f} {unit}{', noise' if floor >= one.margin > 0 else ''}" if one.verdict else None,
        one.p,
        one.note,
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f}"


def gate_summary(gate: Gate) -> dict[str, object]:
    """Everything but the raw rounds, which the ledger keeps."""
    return {
        "verdict": gate.verdict,
        "reason": gate.reason,
        "sides": gate.sides,
        "rounds": len(gate.rounds),
        "confirming": len(gate.confirming),
        "findings": gate.findings,
        "floors": gate.floors,
        "seconds": gate.seconds,
    }


def rates_page(rates: "Sequence[Rate]", draw: Draw = table) -> str:
    """What the self-test found; the first row's *regressed* are false alarms."""
    rows = [
        (
            "as it is (false alarms)" if not one.slower else f"{one.slower:.0%} slower",
            *(one.gates, one.passed, one.inconclusive, one.regressed),
            f"{one.low:.1%} .. {one.high:.1%}",
            *(one.rounds, one.seconds),
        )
        for one in rates
    ]
    columns = {"candidate": "", "gates": "", "passed": ".1%", "inconclusive": ".1%", "regressed": ".1%"}
    return draw(rows, {**columns, "95 % interval": "", "rounds": ".0f", "s a gate": ".0f"})
