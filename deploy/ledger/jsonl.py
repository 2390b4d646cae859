"""A ledger as JSON lines, and back: for a fleet's machines that share no database, for other tools, for keeping.

A line is a release, report, certificate or gate, whole (every latency), with the digest of the bytes that were
recorded; what does not fit its digest is refused (a release's is its bundle's, and is taken as told). Taking the same
lines twice changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from deploy.ledger.ledger import Kind, Ledger
from deploy.ledger.samples import written
from toolchain.errors import RecordError
from toolchain.records import certificate, gate, manifest, report
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate
from toolchain.records.gate import Gate
from toolchain.records.manifest import Manifest
from toolchain.records.report import Report
from toolchain.records.storage import decode_record


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """record: as recorded. image_bytes, recorded_at: of a release alone, which cannot tell them itself."""

    kind: Kind
    digest: str
    record: dict[str, Any]
    image_bytes: int | None = None
    recorded_at: str = ""


def exported(ledger: Ledger, name: str | None = None) -> Iterator[bytes]:
    """Lines without their ends, releases first, each kind oldest first; name: of one model only."""
    for kind, digest, content, more in ledger.contents():
        record = msgspec.json.decode(content, type=dict[str, Any])
        if name is None or _name(kind, record) == name:
            yield msgspec.json.encode(Line(kind, digest, record, **more))


def _name(kind: Kind, record: Mapping[str, Any]) -> object:
    return record["sides"]["candidate"]["name"] if kind == "gate" else record["name"]


def imported(ledger: Ledger, lines: Iterable[bytes], place: str) -> Counter[str]:
    """Keep all lines; how many of each kind. RecordError names the first that does not fit; those before it stay."""
    counts: Counter[str] = Counter()
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        where = f"{place}, line {number}"
        try:
            line = msgspec.json.decode(text, type=Line)
        except msgspec.MsgspecError as error:
            raise RecordError(f"{where}: {error}; expected what `toolchain export` wrote") from error
        content = written(line.record)
        if line.kind != "release" and sha256(content).hexdigest() != line.digest:
            raise RecordError(f"{where}: the {line.kind} was changed since it was recorded (digest differs)")
        _keep(ledger, line, content, where)
        counts[line.kind] += 1
    return counts


def _keep(ledger: Ledger, line: Line, content: bytes, where: str) -> None:
    if line.kind == "report":
        ledger.keep_report(content, decode_record(content, Report, where, report.FORMAT))
    elif line.kind == "certificate":
        ledger.keep_certificate(content, decode_record(content, Certificate, where, certificate.FORMAT))
    elif line.kind == "gate":
        ledger.keep_gate(content, decode_record(content, Gate, where, gate.FORMAT))
    else:
        made = Bundle(Path(), decode_record(content, Manifest, where, manifest.FORMAT), line.digest)
        ledger.record_release(made, line.image_bytes, content, line.recorded_at)
