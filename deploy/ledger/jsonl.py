"""The ledger as JSON lines, and back: for machines that share no database, for other tools, for backups.

A line holds one whole release, report, certificate or gate (every latency included) and the digest of the recorded
bytes. A line that does not match its digest is refused; the digest of a release is that of its bundle and is not
checked. A certificate must be signed by its device (origins.py). Importing the same lines twice changes nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from deploy.ledger.ledger import Ledger, RecordKind
from deploy.ledger.origins import KnownOrigins
from deploy.ledger.samples import encode_document
from toolchain.errors import RecordError
from toolchain.records import certificate, gate, manifest, report
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate
from toolchain.records.gate import Gate
from toolchain.records.manifest import Manifest
from toolchain.records.report import Report
from toolchain.records.storage import JSON_ERRORS, decode_record


class LedgerLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """record: as recorded. image_bytes, recorded_at: for releases only, whose manifest does not hold them."""

    kind: RecordKind
    digest: str
    record: dict[str, Any]
    image_bytes: int | None = None
    recorded_at: str = ""


def dump_jsonl(ledger: Ledger, name: str | None = None) -> Iterator[bytes]:
    """JSON lines without line ends: releases first, each kind oldest first. name: only this model."""
    for kind, digest, content, more in ledger.iter_contents():
        record = msgspec.json.decode(content, type=dict[str, Any])
        if name is None or _model_name(kind, record) == name:
            yield msgspec.json.encode(LedgerLine(kind, digest, record, **more))


def _model_name(kind: RecordKind, record: Mapping[str, Any]) -> object:
    return record["sides"]["candidate"]["name"] if kind == "gate" else record["name"]


def load_jsonl(
    ledger: Ledger, lines: Iterable[bytes], place: str, keys: Collection[str] = (), unsigned: bool = False
) -> Counter[str]:
    """Record all lines and count them by kind. keys: of the only devices whose certificates are accepted, () for any;
    unsigned: whether certificates from before they were signed are accepted. RecordError names the first bad line; the
    lines before it are kept."""
    counts: Counter[str] = Counter()
    origins = KnownOrigins(ledger, keys, unsigned)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        where = f"{place}, line {number}"
        try:
            line = msgspec.json.decode(text, type=LedgerLine)
        except JSON_ERRORS as error:
            raise RecordError(f"{where}: {error}; expected a line of `toolchain ledger export`") from error
        content = encode_document(line.record)
        if line.kind != "release" and sha256(content).hexdigest() != line.digest:
            raise RecordError(f"{where}: the {line.kind} was changed since it was recorded (digest differs)")
        _keep(ledger, origins, line, content, where)
        counts[line.kind] += 1
    return counts


def _keep(ledger: Ledger, origins: KnownOrigins, line: LedgerLine, content: bytes, where: str) -> None:
    if line.kind == "report":
        ledger.keep_report(content, decode_record(content, Report, where, report.FORMAT))
    elif line.kind == "certificate":
        found = decode_record(content, Certificate, where, certificate.FORMAT)
        origins.check(content, found, where)
        ledger.keep_certificate(content, found)
        origins.add_certificate(found)
    elif line.kind == "gate":
        ledger.keep_gate(content, decode_record(content, Gate, where, gate.FORMAT))
    else:
        bundle = Bundle(Path(), decode_record(content, Manifest, where, manifest.FORMAT), line.digest)
        origins.add_release(bundle.digest, bundle.manifest)
        ledger.record_release(bundle, line.image_bytes, content, line.recorded_at)
