"""A report in two parts: JSON that a person can read in the database, and every latency, exactly, as packed bytes."""

from zlib import compress, decompress

import msgspec

from toolchain.records.report import Duet, Report


class _Latencies(msgspec.Struct, frozen=True):
    """What a report is without when it lies in the ledger as JSON."""

    scenarios: tuple[tuple[float, ...], ...]
    duet: dict[str, tuple[tuple[float, ...], ...]] | None


def parted(report: Report) -> tuple[Report, bytes]:
    """The report without its latencies, and they: zlib of msgpack, float64."""
    replace = msgspec.structs.replace
    bare = replace(
        report,
        scenarios=tuple(replace(scenario, latencies_ms=()) for scenario in report.scenarios),
        duet=report.duet and Duet(report.duet.threads, {}),
    )
    duet = None if report.duet is None else report.duet.latencies_ms
    latencies = _Latencies(tuple(scenario.latencies_ms for scenario in report.scenarios), duet)
    return bare, compress(msgspec.msgpack.encode(latencies))


def joined(bare: Report, packed: bytes) -> Report:
    """What parted() took apart."""
    latencies = msgspec.msgpack.decode(decompress(packed), type=_Latencies)
    replace = msgspec.structs.replace
    pairs = zip(bare.scenarios, latencies.scenarios, strict=True)
    scenarios = tuple(replace(scenario, latencies_ms=values) for scenario, values in pairs)
    duet = bare.duet and replace(bare.duet, latencies_ms=latencies.duet or {})
    return replace(bare, scenarios=scenarios, duet=duet)
