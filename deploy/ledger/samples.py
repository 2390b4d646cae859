"""Splits a report or gate into readable JSON and its packed latency samples, and joins the two again.

Joined, they are exactly the bytes that were recorded, even when the record type has gained fields since."""

import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec

from deploy.ledger.codec import pack, unpack
from toolchain.errors import RecordError
from toolchain.records.gate import Round
from toolchain.records.report import Report

JoinDocument = Callable[[str, bytes], bytes]


class _ReportLatencies(msgspec.Struct, frozen=True):
    """The samples that a report in the ledger keeps outside of its JSON."""

    scenarios: tuple[tuple[float, ...], ...]
    duet: dict[str, tuple[tuple[float, ...], ...]] | None


def split_report(content: bytes) -> tuple[str, bytes]:
    """(JSON without latencies, packed latencies) of a report's bytes. Works on bytes, not on a Report: a record
    type that has gained fields since would encode differently."""
    report = _read(content)
    scenarios = tuple(tuple(scenario["latencies_ms"]) for scenario in report["scenarios"])
    duet = report["duet"] and {
        name: tuple(map(tuple, rounds)) for name, rounds in report["duet"]["latencies_ms"].items()
    }
    for scenario in report["scenarios"]:
        scenario["latencies_ms"] = []
    if report["duet"]:
        report["duet"]["latencies_ms"] = {}
    return encode_document(report).decode(), pack(_ReportLatencies(scenarios, duet))


def join_report(document: str, content: bytes) -> bytes:
    """The bytes of a report as they were recorded; the reverse of split_report()."""
    report, latencies = _read(document), unpack(content, dict[str, Any])
    for scenario, values in zip(report["scenarios"], latencies["scenarios"], strict=True):
        scenario["latencies_ms"] = values
    if report["duet"] is not None:
        report["duet"]["latencies_ms"] = dict(sorted(latencies["duet"].items()))
    return encode_document(report)


def split_gate(content: bytes) -> tuple[str, bytes]:
    """(JSON without rounds, packed rounds) of a gate's bytes."""
    gate = _read(content)
    rounds = msgspec.convert((gate["rounds"], gate["confirming"]), tuple[tuple[Round, ...], tuple[Round, ...]])
    return encode_document(gate | {"rounds": [], "confirming": []}).decode(), pack(rounds)


def join_gate(document: str, content: bytes) -> bytes:
    """The bytes of a gate as they were recorded; the reverse of split_gate()."""
    gate = _read(document)
    gate["rounds"], gate["confirming"] = unpack(content, list[Any])
    for measured in (*gate["rounds"], *gate["confirming"]):
        measured |= {key: dict(sorted(value.items())) for key, value in measured.items()}
    return encode_document(gate)


def join_checked(join: JoinDocument, digest: str, document: str, content: bytes, place: str, advice: str) -> bytes:
    """join(document, content), the recorded bytes; RecordError when they do not match `digest`."""
    try:
        joined = join(document, content)
    except (zlib.error, msgspec.MsgspecError, ValueError, LookupError, TypeError) as error:
        raise RecordError(f"{place}: its latencies cannot be read ({error}); {advice}") from error
    if sha256(joined).hexdigest() != digest:
        raise RecordError(f"{place}: changed since it was recorded (digest differs); {advice}")
    return joined


def _read(document: str | bytes) -> dict[str, Any]:
    return msgspec.json.decode(document, type=dict[str, Any])


def encode_document(record: dict[str, Any]) -> bytes:
    """Formatted as storage.encode_record() formats a struct; keeps the order of keys."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def p50_p90_ms(report: Report) -> tuple[float | None, float | None]:
    """Of the SingleStream scenario; None where there were too few samples."""
    single = next((scenario for scenario in report.scenarios if scenario.scenario == "SingleStream"), None)
    return (single.percentile_ms(50.0), single.percentile_ms(90.0)) if single else (None, None)


def offline_per_s(report: Report) -> float | None:
    """Images per second of the Offline scenario; None where it was not run."""
    return next((each.throughput_per_s for each in report.scenarios if each.scenario == "Offline"), None)
