"""Reports and gates in two parts: JSON that a person can read in the database, and every latency, exactly, as packed
bytes. Put together they are the very bytes that were recorded, whatever fields their kind has got since."""

from collections.abc import Callable
from typing import Any

import msgspec

from deploy.packing import packed, unpacked
from toolchain.records.gate import Gate
from toolchain.records.report import Duet, Report

Joined = Callable[[str, bytes], bytes]


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


def joined(document: str, content: bytes) -> bytes:
    """The report's bytes as they were recorded."""
    report, latencies = _read(document), unpacked(content, dict[str, Any])
    for scenario, values in zip(report["scenarios"], latencies["scenarios"], strict=True):
        scenario["latencies_ms"] = values
    if report["duet"] is not None:
        report["duet"]["latencies_ms"] = dict(sorted(latencies["duet"].items()))
    return _written(report)


def parted_gate(gate: Gate) -> tuple[Gate, bytes]:
    """The gate without its rounds, and they."""
    bare = msgspec.structs.replace(gate, rounds=(), confirming=())
    return bare, packed((gate.rounds, gate.confirming))


def joined_gate(document: str, content: bytes) -> bytes:
    """The gate's bytes as they were recorded."""
    gate = _read(document)
    gate["rounds"], gate["confirming"] = unpacked(content, list[Any])
    for one in (*gate["rounds"], *gate["confirming"]):
        one |= {key: dict(sorted(value.items())) for key, value in one.items()}
    return _written(gate)


def _read(document: str) -> dict[str, Any]:
    return msgspec.json.decode(document, type=dict[str, Any])


def _written(record: dict[str, Any]) -> bytes:
    """As records.files.encoded() writes a struct: fields in their order, dicts sorted, as they are in the document."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
