"""Every release, device, report and certificate in one database: an SQLite file by default, PostgreSQL by URL.

Keeps and lists; judges nothing. Rows are named by the digest of what they hold, so recording twice changes nothing.
"""

import os
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from math import log1p
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec
import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from deploy.ledger.database import database_url, engine_for, prepare, shown, transaction
from deploy.ledger.history import Row, history_query
from deploy.ledger.samples import Joined, joined, joined_gate, offline_per_s, p50_p90_ms, parted, parted_gate
from deploy.ledger.schema import certificates, devices, gates, releases, reports
from toolchain.errors import RecordError
from toolchain.paths import home
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE, Gate
from toolchain.records.gate import FORMAT as GATE_FORMAT
from toolchain.records.manifest import FORMAT as MANIFEST_FORMAT
from toolchain.records.manifest import Manifest
from toolchain.records.report import FORMAT as REPORT_FORMAT
from toolchain.records.report import Report
from toolchain.records.storage import decode_record, encode_record

Kind = Literal["release", "report", "certificate", "gate"]
VARIABLE = "TOOLCHAIN_LEDGER"


class Other(NamedTuple):
    """Another release: its bundle, its name, the verdict of its last gate against another ("" where there was none),
    and whether it was recorded before the one that it is another to."""

    bundle: str
    release: str
    verdict: str
    older: bool


def default_place() -> str:
    """$TOOLCHAIN_LEDGER, else a file in the toolchain's own folder."""
    return os.environ.get(VARIABLE) or str(home() / "ledger.sqlite")


class Ledger:
    """An open ledger; `with Ledger() as ledger`. Every method raises RecordError for what the database refuses."""

    def __init__(self, place: str | Path | None = None) -> None:
        self._engine = engine_for(database_url(place or default_place()))

    def __enter__(self) -> Self:
        try:
            prepare(self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def record_release(
        self, bundle: Bundle, image_bytes: int | None = None, content: bytes = b"", recorded_at: str = ""
    ) -> str:
        """Keep a bundle's manifest; returns its digest. image_bytes: unpacked; may be told later, by a second call.
        content, recorded_at: as another ledger has them."""
        manifest, accuracy = bundle.manifest, bundle.manifest.accuracy
        values = {
            "bundle": bundle.digest,
            "name": manifest.name,
            "release": manifest.release,
            "target": manifest.target,
            "model": manifest.model,
            "precision": manifest.chosen,
            "accuracy_fp32": accuracy and accuracy.fp32,
            "accuracy": accuracy and accuracy.chosen,
            "size_bytes": manifest.serving.size_bytes,
            "image_bytes": image_bytes,
            "manifest": (content or encode_record(manifest)).decode(),
            "recorded_at": recorded_at or datetime.now(UTC).isoformat(timespec="microseconds"),  # several a second
        }
        with transaction(self._engine, writes=True) as connection:
            self._keep(connection, releases, values)
            if image_bytes is not None:
                this = releases.c.bundle == bundle.digest
                connection.execute(releases.update().where(this).values(image_bytes=image_bytes))
        return bundle.digest

    def record_report(self, report: Report) -> str:
        """Keep a report with every latency; returns its digest."""
        return self.keep_report(encode_record(report), report)

    def keep_report(self, content: bytes, report: Report) -> str:
        """As record_report(), of the very bytes that another ledger has."""
        document, latencies = parted(content)
        p50, p90 = p50_p90_ms(report)
        values = {
            "report": sha256(content).hexdigest(),
            "bundle": report.bundle,
            "name": report.name,
            "release": report.release,
            "target": report.target,
            "precision": report.precision,
            "threads": report.threads,
            "p50_ms": p50,
            "p90_ms": p90,
            "throughput_per_s": offline_per_s(report),
            "peak_memory_bytes": report.peak_memory_bytes,
            "cold_start_s": report.cold_start_s,
            "measured_at": report.measured_at,
            "document": document,
            "latencies": latencies,
        }
        with transaction(self._engine, writes=True) as connection:
            device = self._device(connection, report.fingerprint)
            self._keep(connection, reports, values | {"device": device})
        return str(values["report"])

    def record_certificate(self, certificate: Certificate) -> str:
        """Keep a certificate, passed or not; returns its digest."""
        return self.keep_certificate(encode_record(certificate), certificate)

    def keep_certificate(self, content: bytes, certificate: Certificate) -> str:
        """As record_certificate(), of the very bytes that another ledger has."""
        values = {
            "certificate": sha256(content).hexdigest(),
            "bundle": certificate.bundle,
            "precision": certificate.precision,
            "passed": certificate.passed,
            "accuracy": certificate.accuracy,
            "accuracy_low": certificate.accuracy_low,
            "accuracy_high": certificate.accuracy_high,
            "issued_at": certificate.issued_at,
            "document": content.decode(),
        }
        with transaction(self._engine, writes=True) as connection:
            device = self._device(connection, certificate.fingerprint)
            self._keep(connection, certificates, values | {"device": device})
        return str(values["certificate"])

    def record_gate(self, gate: Gate) -> str:
        """Keep a gate with every round; returns its digest."""
        return self.keep_gate(encode_record(gate), gate)

    def keep_gate(self, content: bytes, gate: Gate) -> str:
        """As record_gate(), of the very bytes that another ledger has."""
        document, rounds = parted_gate(content)
        values = {
            "gate": sha256(content).hexdigest(),
            "candidate": gate.sides[CANDIDATE].bundle,
            "baseline": gate.sides[BASELINE].bundle,
            "name": gate.sides[CANDIDATE].name,
            "threads": gate.threads,
            "verdict": gate.verdict,
            "slower": gate.slower,
            "judged_at": gate.judged_at,
            "document": document,
            "rounds": rounds,
        }
        with transaction(self._engine, writes=True) as connection:
            device = self._device(connection, gate.fingerprint) if gate.fingerprint else None
            self._keep(connection, gates, values | {"device": device})
        return str(values["gate"])

    def gates(self, candidate: str) -> tuple[Gate, ...]:
        """All gates of a bundle, oldest first, as they were recorded."""
        asked = sql.select(gates.c.gate, gates.c.document, gates.c.rounds).where(gates.c.candidate == candidate)
        with transaction(self._engine, writes=False) as connection:
            found = connection.execute(asked.order_by(gates.c.judged_at, gates.c.gate)).all()
        return tuple(self._whole_gate(*row) for row in found)

    def noise(self, name: str, precision: str, fingerprint: Fingerprint, threads: int) -> dict[str, list[float]]:
        """Log-ratios by metric that gates of a release of that model against itself found on that device."""
        device = sha256(encode_record(fingerprint)).hexdigest()
        asked = sql.select(gates.c.document).where(gates.c.candidate == gates.c.baseline, gates.c.slower == 0)
        asked = asked.where(gates.c.name == name, gates.c.device == device, gates.c.threads == threads)
        with transaction(self._engine, writes=False) as connection:
            found = connection.execute(asked).scalars().all()
        effects: dict[str, list[float]] = {}
        for document in found:
            gate = decode_record(document.encode(), Gate, shown(self._engine.url), GATE_FORMAT)
            for one in gate.findings if gate.sides[CANDIDATE].precision == precision else ():
                if one.against == BASELINE and one.low is not None and one.change is not None:
                    effects.setdefault(one.metric, []).append(log1p(one.change))
        return effects

    def others(self, bundle: str, name: str, target: str) -> tuple[Other, ...]:
        """The other releases of a model for a target, newest first."""
        last = (
            sql.select(gates.c.verdict)
            .where(gates.c.candidate == releases.c.bundle, gates.c.baseline != gates.c.candidate, gates.c.slower == 0)
            .order_by(gates.c.judged_at.desc())
            .limit(1)
            .scalar_subquery()
        )
        this = sql.select(releases.c.recorded_at).where(releases.c.bundle == bundle).scalar_subquery()
        older = sql.func.coalesce(releases.c.recorded_at < this, True)
        asked = sql.select(releases.c.bundle, releases.c.release, sql.func.coalesce(last, ""), older)
        asked = asked.where(releases.c.name == name, releases.c.target == target, releases.c.bundle != bundle)
        with transaction(self._engine, writes=False) as connection:
            found = connection.execute(asked.order_by(releases.c.recorded_at.desc(), releases.c.bundle)).all()
        return tuple(Other(row[0], row[1], row[2], bool(row[3])) for row in found)

    def bundle(self, name: str, release: str | None = None) -> str | None:
        """The digest of a model's release, of several of that name the newest; None for the release: the newest."""
        asked = sql.select(releases.c.bundle).where(releases.c.name == name)
        if release is not None:
            asked = asked.where(releases.c.release == release)
        with transaction(self._engine, writes=False) as connection:
            return connection.scalar(asked.order_by(releases.c.recorded_at.desc(), releases.c.bundle).limit(1))

    def manifest(self, bundle: str) -> Manifest:
        """A release's manifest, as it was recorded; RecordError where there is none."""
        with transaction(self._engine, writes=False) as connection:
            text = connection.scalar(sql.select(releases.c.manifest).where(releases.c.bundle == bundle))
        place = f"{shown(self._engine.url)}: bundle {bundle[:12]}"
        if text is None:
            raise RecordError(f"{place}: not in the ledger; record it: toolchain deploy, or toolchain gate")
        return decode_record(text.encode(), Manifest, place, MANIFEST_FORMAT)

    def history(self, name: str | None = None, limit: int = 50) -> tuple[Row, ...]:
        """Releases x devices, newest first: a row for each report, and one for each release without any."""
        with transaction(self._engine, writes=False) as connection:
            found = connection.execute(history_query(name).limit(limit)).mappings().all()
        return tuple(Row(**row) for row in found)

    def reports(self, bundle: str) -> tuple[Report, ...]:
        """All reports on a bundle, oldest first, as they were recorded."""
        asked = sql.select(reports.c.report, reports.c.document, reports.c.latencies)
        asked = asked.where(reports.c.bundle == bundle).order_by(reports.c.measured_at, reports.c.report)
        with transaction(self._engine, writes=False) as connection:
            found = connection.execute(asked).all()
        return tuple(self._whole(*row) for row in found)

    def contents(self) -> Iterator[tuple[Kind, str, bytes, dict[str, Any]]]:
        """(kind, digest, the bytes that were recorded, what only the ledger knows) of everything, oldest first."""
        r, m, c, g = releases.c, reports.c, certificates.c, gates.c
        with transaction(self._engine, writes=False) as connection:
            asked = sql.select(r.bundle, r.manifest, r.image_bytes, r.recorded_at).order_by(r.recorded_at, r.bundle)
            for bundle, text, image_bytes, at in connection.execute(asked):
                yield "release", bundle, text.encode(), {"image_bytes": image_bytes, "recorded_at": at}
            for digest, text in connection.execute(sql.select(c.certificate, c.document).order_by(c.issued_at)):
                yield "certificate", digest, text.encode(), {}
            for row in connection.execute(sql.select(m.report, m.document, m.latencies).order_by(m.measured_at)):
                yield "report", row[0], self._bytes(*row, joined, "report", "measure again: toolchain bench"), {}
            for row in connection.execute(sql.select(g.gate, g.document, g.rounds).order_by(g.judged_at)):
                yield "gate", row[0], self._bytes(*row, joined_gate, "gate", "judge again: toolchain gate"), {}

    def _whole(self, digest: str, document: str, latencies: bytes) -> Report:
        content = self._bytes(digest, document, latencies, joined, "report", "measure again: toolchain bench")
        return decode_record(content, Report, self._place(digest, "report"), REPORT_FORMAT)

    def _whole_gate(self, digest: str, document: str, rounds: bytes) -> Gate:
        content = self._bytes(digest, document, rounds, joined_gate, "gate", "judge again: toolchain gate")
        return decode_record(content, Gate, self._place(digest, "gate"), GATE_FORMAT)

    def _bytes(self, digest: str, document: str, latencies: bytes, join: Joined, kind: str, cure: str) -> bytes:
        """What was recorded; RecordError when it is not what its digest says."""
        place = self._place(digest, kind)
        try:
            content = join(document, latencies)
        except (zlib.error, msgspec.MsgspecError, ValueError, LookupError, TypeError) as error:
            raise RecordError(f"{place}: its latencies cannot be read ({error}); {cure}") from error
        if sha256(content).hexdigest() != digest:
            raise RecordError(f"{place}: changed since it was recorded (digest differs); {cure}")
        return content

    def _place(self, digest: str, kind: str) -> str:
        return f"{shown(self._engine.url)}: {kind} {digest[:12]}"

    def _device(self, connection: sql.Connection, fingerprint: Fingerprint) -> str:
        content = encode_record(fingerprint)
        device = sha256(content).hexdigest()
        values = {"device": device, "label": device_label(fingerprint), "fingerprint": content.decode()}
        self._keep(connection, devices, values)
        return device

    def _keep(self, connection: sql.Connection, table: sql.Table, values: Mapping[str, Any]) -> None:
        """Insert, unless a row of this digest is there already."""
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        connection.execute(insert(table).values(**values).on_conflict_do_nothing())


def device_label(fingerprint: Fingerprint) -> str:
    """A device in a table's cell."""
    cpus = fingerprint.cpu_quota or fingerprint.cpus_allowed
    return f"{fingerprint.gpu or fingerprint.cpu_model or fingerprint.architecture}, {cpus:g} CPUs"
