"""The rows of `toolchain ledger history`: releases x devices with accuracy, latency and size, in one query."""

from typing import Any

import msgspec
import sqlalchemy as sql

from deploy.ledger.schema import certificates, devices, releases, reports
from toolchain.records.fingerprint import Fingerprint


class HistoryRow(msgspec.Struct, frozen=True):
    """A release on a device. accuracy: top-1 of the serving precision on the test split; certified: on the device's own
    sample; both are shares in 0..1. None: not known, or, from `device` on, not measured on any device yet."""

    bundle: str
    name: str
    release: str
    target: str
    precision: str
    accuracy: float | None
    size_bytes: int | None
    image_bytes: int | None
    device: str | None
    certified: float | None
    p50_ms: float | None
    p90_ms: float | None
    throughput_per_s: float | None
    peak_memory_bytes: int | None
    cold_start_s: float | None
    at: str


def history_query(name: str | None) -> sql.Select[Any]:
    """Rows with the fields of Row, newest first; name: of one model only."""
    # a report may arrive before its release, or without it
    known = sql.union(sql.select(releases.c.bundle), sql.select(reports.c.bundle)).subquery()
    r, m, both = releases.c, reports.c, sql.func.coalesce
    certified = (
        sql.select(certificates.c.accuracy)
        .where(certificates.c.bundle == m.bundle, certificates.c.device == m.device)
        .where(certificates.c.precision == m.precision)
        .order_by(certificates.c.issued_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    at = both(m.measured_at, r.recorded_at)
    # a release's accuracy and size are those of its serving precision
    serving = sql.or_(m.precision.is_(None), m.precision == r.precision)
    query = sql.select(
        known.c.bundle,
        both(r.name, m.name).label("name"),
        both(r.release, m.release).label("release"),
        both(r.target, m.target).label("target"),
        both(m.precision, r.precision).label("precision"),
        sql.case((serving, r.accuracy)).label("accuracy"),
        sql.case((serving, r.size_bytes)).label("size_bytes"),
        r.image_bytes,
        devices.c.label.label("device"),
        certified.label("certified"),
        *(m.p50_ms, m.p90_ms, m.throughput_per_s, m.peak_memory_bytes, m.cold_start_s),
        at.label("at"),
    )
    tables = known.outerjoin(releases, r.bundle == known.c.bundle).outerjoin(reports, m.bundle == known.c.bundle)
    query = query.select_from(tables.outerjoin(devices, devices.c.device == m.device))
    if name is not None:
        query = query.where(both(r.name, m.name) == name)
    return query.order_by(at.desc(), known.c.bundle, m.report)


def device_label(fingerprint: Fingerprint) -> str:
    """A device in one line, for tables."""
    cpus = fingerprint.cpu_quota or fingerprint.cpus_allowed
    return f"{fingerprint.gpu or fingerprint.cpu_model or fingerprint.architecture}, {cpus:g} CPUs"
