"""Reports and gates in two parts: JSON that a person can read in the database, and every latency, exactly, as packed
bytes. Put together they are the very bytes that were recorded, whatever fields their kind has got since."""

from collections.abc import Callable
from typing import Any

import msgspec

from deploy.ledger.codec import packed, unpacked
from toolchain.records.gate import Round
from toolchain.records.report import Report

Joined = Callable[[str, bytes], bytes]


class _Latencies(msgspec.Struct, frozen=True):
    """What a report is without when it lies in the ledger as JSON."""

    scenarios: tuple[tuple[float, ...], ...]
    duet: dict[str, tuple[tuple[float, ...], ...]] | None


def parted(content: bytes) -> tuple[str, bytes]:
    """A report's bytes as JSON without its latencies, and they. Of the bytes and not of a record: a record that has
    grown since would write others."""
    report = _read(content)
    scenarios = tuple(tuple(one["latencies_ms"]) for one in report["scenarios"])
    duet = report["duet"] and {name: tuple(map(tuple, found)) for name, found in report["duet"]["latencies_ms"].items()}
    for scenario in report["scenarios"]:
        scenario["latencies_ms"] = []
    if report["duet"]:
        report["duet"]["latencies_ms"] = {}
    return written(report).decode(), packed(_Latencies(scenarios, duet))


def joined(document: str, content: bytes) -> bytes:
    """The report's bytes as they were recorded."""
    report, latencies = _read(document), unpacked(content, dict[str, Any])
    for scenario, values in zip(report["scenarios"], latencies["scenarios"], strict=True):
        scenario["latencies_ms"] = values
    if report["duet"] is not None:
        report["duet"]["latencies_ms"] = dict(sorted(latencies["duet"].items()))
    return written(report)


def parted_gate(content: bytes) -> tuple[str, bytes]:
    """A gate's bytes as JSON without its rounds, and they."""
    gate = _read(content)
    rounds = msgspec.convert((gate["rounds"], gate["confirming"]), tuple[tuple[Round, ...], tuple[Round, ...]])
    return written(gate | {"rounds": [], "confirming": []}).decode(), packed(rounds)


def joined_gate(document: str, content: bytes) -> bytes:
    """The gate's bytes as they were recorded."""
    gate = _read(document)
    gate["rounds"], gate["confirming"] = unpacked(content, list[Any])
    for one in (*gate["rounds"], *gate["confirming"]):
        one |= {key: dict(sorted(value.items())) for key, value in one.items()}
    return written(gate)


def _read(document: str | bytes) -> dict[str, Any]:
    return msgspec.json.decode(document, type=dict[str, Any])


def written(record: dict[str, Any]) -> bytes:
    """As records.files.encoded() writes a struct: fields in their order, dicts sorted, as they are in the document."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def p50_p90_ms(report: Report) -> tuple[float | None, float | None]:
    """Of SingleStream, where there were samples enough."""
    single = next((one for one in report.scenarios if one.scenario == "SingleStream"), None)
    return (single.percentile_ms(50.0), single.percentile_ms(90.0)) if single else (None, None)


def offline_per_s(report: Report) -> float | None:
    """Pictures a second of Offline, where it was run."""
    return next((one.throughput_per_s for one in report.scenarios if one.scenario == "Offline"), None)
