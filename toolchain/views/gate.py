"""A gate as text: one row per metric, and the verdict in a sentence. Computes nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from toolchain.records.gate import BASELINE, CANDIDATE, Finding, Gate
from toolchain.tables import Draw, table

if TYPE_CHECKING:
    from deploy.gate.selftest import Rate

COLUMNS = {"metric": "", "verdict": "", "worse by": "", "98 % interval": "", "budget": "", "p": ".4f", "": ""}


def gate_page(gate: Gate) -> str:
    """The candidate against every other release in the gate."""
    drawn = findings_table(gate) if gate.findings else ""
    return "\n\n".join(part for part in (heading(gate), drawn, f"{gate.verdict}: {gate.reason}") if part)


def heading(gate: Gate) -> str:
    """What was compared, in how many rounds and how long."""
    mine = gate.sides[CANDIDATE]
    others = ", ".join(f"{role} {release.release}" for role, release in gate.sides.items() if role != CANDIDATE)
    rounds = f"{len(gate.rounds)} rounds" + (f" and {len(gate.confirming)} confirming" if gate.confirming else "")
    return f"{mine.name} {mine.release} ({mine.precision}) against {others}: {rounds}, {gate.seconds:.0f} s"


def findings_table(gate: Gate, draw: Draw = table) -> str:
    """One row per metric."""
    return draw([_row(finding, gate.floors.get(finding.metric, 0.0)) for finding in gate.findings], COLUMNS)


def _row(finding: Finding, floor: float) -> tuple[object, ...]:
    unit = "points" if finding.metric == "accuracy" else "%"
    known = finding.low is not None and finding.high is not None
    return (
        finding.metric if finding.against == BASELINE else f"{finding.metric} ({finding.against})",
        finding.verdict or "not measured",
        None if finding.change is None else f"{_share(finding.change)} {unit}",
        f"{_share(finding.low)} .. {_share(finding.high)}" if known else None,
        f"{100 * finding.margin:.1f} {unit}{', noise' if floor >= finding.margin > 0 else ''}"
        if finding.verdict
        else None,
        finding.p,
        finding.note,
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
    """The self-test's rates; *regressed* in the first row are false alarms."""
    rows = [
        (
            "unchanged (false alarms)" if not rate.slower else f"{rate.slower:.0%} slower",
            *(rate.gates, rate.passed, rate.inconclusive, rate.regressed),
            f"{rate.low:.1%} .. {rate.high:.1%}",
            *(rate.rounds, rate.seconds),
        )
        for rate in rates
    ]
    columns = {"candidate": "", "gates": "", "passed": ".1%", "inconclusive": ".1%", "regressed": ".1%"}
    return draw(rows, {**columns, "95 % interval": "", "rounds": ".0f", "s per gate": ".0f"})
