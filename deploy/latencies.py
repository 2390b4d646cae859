"""Reports and gates in two parts: JSON that a person can read in the database, and every latency, exactly, as packed
bytes."""

import msgspec

from deploy.packing import packed, unpacked
from toolchain.records.gate import Gate, Round
from toolchain.records.report import Duet, Report


class _Latencies(msgspec.Struct, frozen=True):
    """What a report is without when it lies in the ledger as JSON."""

    scenarios: tuple[tuple[float, ...], ...]
    duet: dict[str, tuple[tuple[float, ...], ...]] | None


def parted(report: Report) -> tuple[Report, bytes]:
    """The report without its latencies, and they."""
    replace = msgspec.structs.replace
    bare = replace(
        report,
        scenarios=tuple(replace(scenario, latencies_ms=()) for scenario in report.scenarios),
        duet=report.duet and Duet(report.duet.threads, {}),
    )
    duet = None if report.duet is None else report.duet.latencies_ms
    latencies = _Latencies(tuple(scenario.latencies_ms for scenario in report.scenarios), duet)
    return bare, packed(latencies)


def joined(bare: Report, content: bytes) -> Report:
    """What parted() took apart."""
    latencies = unpacked(content, _Latencies)
    replace = msgspec.structs.replace
    pairs = zip(bare.scenarios, latencies.scenarios, strict=True)
    scenarios = tuple(replace(scenario, latencies_ms=values) for scenario, values in pairs)
    duet = bare.duet and replace(bare.duet, latencies_ms=latencies.duet or {})
    return replace(bare, scenarios=scenarios, duet=duet)


def parted_gate(gate: Gate) -> tuple[Gate, bytes]:
    """The gate without its rounds, and they."""
    bare = msgspec.structs.replace(gate, rounds=(), confirming=())
    return bare, packed((gate.rounds, gate.confirming))


def joined_gate(bare: Gate, content: bytes) -> Gate:
    """What parted_gate() took apart."""
    rounds, confirming = unpacked(content, tuple[tuple[Round, ...], tuple[Round, ...]])
    return msgspec.structs.replace(bare, rounds=rounds, confirming=confirming)
