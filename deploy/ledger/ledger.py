"""Every release, device, report, certificate and gate in one database: an SQLite file by default, PostgreSQL by URL.

Stores and lists; does not judge. Rows are keyed by the digest of their content, so recording twice changes nothing.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from math import log1p
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from deploy.ledger import samples
from deploy.ledger.database import database_url, display_url, engine_for, prepare, transaction
from deploy.ledger.history import HistoryRow, device_label, history_query
from deploy.ledger.samples import offline_per_s, p50_p90_ms, split_gate, split_report
from deploy.ledger.saturation import newest_outcomes, predictions_query
from deploy.ledger.schema import certificates, devices, gates, releases, reports
from toolchain.errors import RecordError
from toolchain.paths import home
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Certificate, SaturationOutcome
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE, Gate
from toolchain.records.gate import FORMAT as GATE_FORMAT
from toolchain.records.manifest import FORMAT as MANIFEST_FORMAT
from toolchain.records.manifest import Manifest
from toolchain.records.report import FORMAT as REPORT_FORMAT
from toolchain.records.report import Report
from toolchain.records.storage import decode_record, encode_record

RecordKind = Literal["release", "report", "certificate", "gate"]
LEDGER_VARIABLE = "TOOLCHAIN_LEDGER"


class OtherRelease(NamedTuple):
    """Another release of the same model. verdict: of its last gate against a different release ("" if none); older: it
    was recorded before the release that it is compared with."""

    bundle: str
    release: str
    verdict: str
    older: bool


def default_location() -> str:
    """$TOOLCHAIN_LEDGER, else a file in the toolchain's own folder."""
    return os.environ.get(LEDGER_VARIABLE) or str(home() / "ledger.sqlite")


class Ledger:
    """An open ledger; `with Ledger() as ledger`. Every method raises RecordError for what the database refuses."""

    def __init__(self, place: str | Path | None = None) -> None:
        self._engine = engine_for(database_url(place or default_location()))

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
        """Record a bundle's manifest; returns its digest. image_bytes: size unpacked; may be added by a second call.
        content, recorded_at: from another ledger's export."""
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
            self._insert(connection, releases, values)
            if image_bytes is not None:
                this = releases.c.bundle == bundle.digest
                connection.execute(releases.update().where(this).values(image_bytes=image_bytes))
        return bundle.digest

    def record_report(self, report: Report) -> str:
        """Record a report with every latency; returns its digest."""
        return self.keep_report(encode_record(report), report)

    def keep_report(self, content: bytes, report: Report) -> str:
        """As record_report(), with the exact bytes of another ledger's export."""
        document, latencies = split_report(content)
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
            device = self._keep_device(connection, report.fingerprint)
            self._insert(connection, reports, values | {"device": device})
        return str(values["report"])

    def record_certificate(self, certificate: Certificate) -> str:
        """Record a certificate, passed or not; returns its digest."""
        return self.keep_certificate(encode_record(certificate), certificate)

    def keep_certificate(self, content: bytes, certificate: Certificate) -> str:
        """As record_certificate(), with the exact bytes of another ledger's export."""
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
            device = self._keep_device(connection, certificate.fingerprint)
            self._insert(connection, certificates, values | {"device": device})
        return str(values["certificate"])

    def record_gate(self, gate: Gate) -> str:
        """Record a gate with every round; returns its digest."""
        return self.keep_gate(encode_record(gate), gate)

    def keep_gate(self, content: bytes, gate: Gate) -> str:
        """As record_gate(), with the exact bytes of another ledger's export."""
        document, rounds = split_gate(content)
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
            device = self._keep_device(connection, gate.fingerprint) if gate.fingerprint else None
            self._insert(connection, gates, values | {"device": device})
        return str(values["gate"])

    def gates(self, candidate: str) -> tuple[Gate, ...]:
        """All gates of a bundle, oldest first, as they were recorded."""
        query = sql.select(gates.c.gate, gates.c.document, gates.c.rounds).where(gates.c.candidate == candidate)
        with transaction(self._engine, writes=False) as connection:
            rows = connection.execute(query.order_by(gates.c.judged_at, gates.c.gate)).all()
        return tuple(self._load_gate(*row) for row in rows)

    def gate_noise(self, name: str, precision: str, fingerprint: Fingerprint, threads: int) -> dict[str, list[float]]:
        """By metric, the log-ratios that gates of a release against itself measured for this model on this device."""
        device = sha256(encode_record(fingerprint)).hexdigest()
        query = sql.select(gates.c.document).where(gates.c.candidate == gates.c.baseline, gates.c.slower == 0)
        query = query.where(gates.c.name == name, gates.c.device == device, gates.c.threads == threads)
        with transaction(self._engine, writes=False) as connection:
            documents = connection.execute(query).scalars().all()
        effects: dict[str, list[float]] = {}
        for document in documents:
            gate = decode_record(document.encode(), Gate, display_url(self._engine.url), GATE_FORMAT)
            for finding in gate.findings if gate.sides[CANDIDATE].precision == precision else ():
                if finding.against == BASELINE and finding.low is not None and finding.change is not None:
                    effects.setdefault(finding.metric, []).append(log1p(finding.change))
        return effects

    def other_releases(self, bundle: str, name: str, target: str) -> tuple[OtherRelease, ...]:
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
        query = sql.select(releases.c.bundle, releases.c.release, sql.func.coalesce(last, ""), older)
        query = query.where(releases.c.name == name, releases.c.target == target, releases.c.bundle != bundle)
        with transaction(self._engine, writes=False) as connection:
            rows = connection.execute(query.order_by(releases.c.recorded_at.desc(), releases.c.bundle)).all()
        return tuple(OtherRelease(row[0], row[1], row[2], bool(row[3])) for row in rows)

    def find_bundle(self, name: str, release: str | None = None) -> str | None:
        """The bundle digest of a model's release (None: its newest release); the newest of several with that name."""
        query = sql.select(releases.c.bundle).where(releases.c.name == name)
        if release is not None:
            query = query.where(releases.c.release == release)
        with transaction(self._engine, writes=False) as connection:
            return connection.scalar(query.order_by(releases.c.recorded_at.desc(), releases.c.bundle).limit(1))

    def manifest(self, bundle: str) -> Manifest:
        """A release's manifest as recorded; RecordError when it is not in the ledger."""
        with transaction(self._engine, writes=False) as connection:
            text = connection.scalar(sql.select(releases.c.manifest).where(releases.c.bundle == bundle))
        place = f"{display_url(self._engine.url)}: bundle {bundle[:12]}"
        if text is None:
            raise RecordError(f"{place}: not in the ledger; record it: toolchain deploy, or toolchain gate")
        return decode_record(text.encode(), Manifest, place, MANIFEST_FORMAT)

    def history(self, name: str | None = None, limit: int = 50) -> tuple[HistoryRow, ...]:
        """Newest first: one row for each report, and one for each release without a report."""
        with transaction(self._engine, writes=False) as connection:
            rows = connection.execute(history_query(name).limit(limit)).mappings().all()
        return tuple(HistoryRow(**row) for row in rows)

    def saturation_outcomes(self, name: str | None = None) -> tuple[SaturationOutcome, ...]:
        """What builds predicted of int8 sums, and what the certificates of devices without VNNI say; name: of one model
        only."""
        with transaction(self._engine, writes=False) as connection:
            rows = connection.execute(predictions_query(name)).all()
        return newest_outcomes(rows, display_url(self._engine.url))

    def reports(self, bundle: str) -> tuple[Report, ...]:
        """All reports on a bundle, oldest first, as they were recorded."""
        query = sql.select(reports.c.report, reports.c.document, reports.c.latencies)
        query = query.where(reports.c.bundle == bundle).order_by(reports.c.measured_at, reports.c.report)
        with transaction(self._engine, writes=False) as connection:
            rows = connection.execute(query).all()
        return tuple(self._load_report(*row) for row in rows)

    def iter_contents(self) -> Iterator[tuple[RecordKind, str, bytes, dict[str, Any]]]:
        """(kind, digest, recorded bytes, what only the ledger knows) of every record; each kind oldest first."""
        r, m, c, g = releases.c, reports.c, certificates.c, gates.c
        with transaction(self._engine, writes=False) as connection:
            query = sql.select(r.bundle, r.manifest, r.image_bytes, r.recorded_at).order_by(r.recorded_at, r.bundle)
            for bundle, text, image_bytes, at in connection.execute(query):
                yield "release", bundle, text.encode(), {"image_bytes": image_bytes, "recorded_at": at}
            for digest, text in connection.execute(sql.select(c.certificate, c.document).order_by(c.issued_at)):
                yield "certificate", digest, text.encode(), {}
            for row in connection.execute(sql.select(m.report, m.document, m.latencies).order_by(m.measured_at)):
                yield "report", row[0], self._report_bytes(*row), {}
            for row in connection.execute(sql.select(g.gate, g.document, g.rounds).order_by(g.judged_at)):
                yield "gate", row[0], self._gate_bytes(*row), {}

    def _load_report(self, digest: str, document: str, latencies: bytes) -> Report:
        content = self._report_bytes(digest, document, latencies)
        return decode_record(content, Report, self._location(digest, "report"), REPORT_FORMAT)

    def _load_gate(self, digest: str, document: str, rounds: bytes) -> Gate:
        content = self._gate_bytes(digest, document, rounds)
        return decode_record(content, Gate, self._location(digest, "gate"), GATE_FORMAT)

    def _report_bytes(self, digest: str, document: str, latencies: bytes) -> bytes:
        place = self._location(digest, "report")
        return samples.join_checked(
            samples.join_report, digest, document, latencies, place, "measure again: toolchain bench"
        )

    def _gate_bytes(self, digest: str, document: str, rounds: bytes) -> bytes:
        place = self._location(digest, "gate")
        return samples.join_checked(samples.join_gate, digest, document, rounds, place, "run it again: toolchain gate")

    def _location(self, digest: str, kind: str) -> str:
        return f"{display_url(self._engine.url)}: {kind} {digest[:12]}"

    def _keep_device(self, connection: sql.Connection, fingerprint: Fingerprint) -> str:
        content = encode_record(fingerprint)
        device = sha256(content).hexdigest()
        values = {"device": device, "label": device_label(fingerprint), "fingerprint": content.decode()}
        self._insert(connection, devices, values)
        return device

    def _insert(self, connection: sql.Connection, table: sql.Table, values: Mapping[str, Any]) -> None:
        """Insert, unless there is a row with this digest already."""
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        connection.execute(insert(table).values(**values).on_conflict_do_nothing())
