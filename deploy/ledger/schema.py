"""The ledger's tables; ledger.py reads and writes them.

Format history
1  first (0.1.0)
2  gates (0.2.0)
"""

from collections.abc import Callable, Mapping

import sqlalchemy as sql

FORMAT = 2

DIGEST = sql.String(64)

metadata = sql.MetaData()

# one row: the format's number
formats = sql.Table("ledger_format", metadata, sql.Column("format", sql.Integer, nullable=False))

releases = sql.Table(
    "releases",
    metadata,
    sql.Column("bundle", DIGEST, primary_key=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("release", sql.Text, nullable=False),
    sql.Column("target", sql.Text, nullable=False),
    sql.Column("model", sql.Text, nullable=False),
    sql.Column("precision", sql.Text, nullable=False),
    sql.Column("accuracy_fp32", sql.Double),  # top-1, share 0..1; null: no labelled test split
    sql.Column("accuracy", sql.Double),
    sql.Column("size_bytes", sql.BigInteger, nullable=False),
    sql.Column("image_bytes", sql.BigInteger),  # null: no image built yet
    sql.Column("manifest", sql.Text, nullable=False),
    sql.Column("recorded_at", sql.Text, nullable=False),
)

devices = sql.Table(
    "devices",
    metadata,
    sql.Column("device", DIGEST, primary_key=True),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("fingerprint", sql.Text, nullable=False),
)

# No foreign key to releases: an edge server may report on an image whose bundle is not in this ledger.
reports = sql.Table(
    "reports",
    metadata,
    sql.Column("report", DIGEST, primary_key=True),
    sql.Column("bundle", DIGEST, nullable=False, index=True),
    sql.Column("device", sql.ForeignKey(devices.c.device), nullable=False, index=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("release", sql.Text, nullable=False),
    sql.Column("target", sql.Text, nullable=False),
    sql.Column("precision", sql.Text, nullable=False),
    sql.Column("threads", sql.Integer, nullable=False),
    sql.Column("p50_ms", sql.Double),  # SingleStream; null: too few samples
    sql.Column("p90_ms", sql.Double),
    sql.Column("throughput_per_s", sql.Double),  # Offline
    sql.Column("peak_memory_bytes", sql.BigInteger, nullable=False),
    sql.Column("cold_start_s", sql.Double),
    sql.Column("measured_at", sql.Text, nullable=False),
    sql.Column("document", sql.Text, nullable=False),  # the report's JSON without its latencies
    sql.Column("latencies", sql.LargeBinary, nullable=False),  # every one, lossless: codec.py
)

certificates = sql.Table(
    "certificates",
    metadata,
    sql.Column("certificate", DIGEST, primary_key=True),
    sql.Column("bundle", DIGEST, nullable=False, index=True),
    sql.Column("device", sql.ForeignKey(devices.c.device), nullable=False),
    sql.Column("precision", sql.Text, nullable=False),
    sql.Column("passed", sql.Boolean, nullable=False),
    sql.Column("accuracy", sql.Double),
    sql.Column("accuracy_low", sql.Double),
    sql.Column("accuracy_high", sql.Double),
    sql.Column("issued_at", sql.Text, nullable=False),
    sql.Column("document", sql.Text, nullable=False),
)

# No foreign key to releases here either. A gate of a release against itself measures the noise of the device.
gates = sql.Table(
    "gates",
    metadata,
    sql.Column("gate", DIGEST, primary_key=True),
    sql.Column("candidate", DIGEST, nullable=False, index=True),
    sql.Column("baseline", DIGEST, nullable=False),
    sql.Column("device", sql.ForeignKey(devices.c.device)),  # null: the containers did not report one
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("threads", sql.Integer, nullable=False),
    sql.Column("verdict", sql.Text, nullable=False),
    sql.Column("slower", sql.Double, nullable=False),  # slow-down injected by the self-test, as a factor; 0: none
    sql.Column("judged_at", sql.Text, nullable=False),
    sql.Column("document", sql.Text, nullable=False),  # the gate's JSON without its rounds
    sql.Column("rounds", sql.LargeBinary, nullable=False),  # every one, lossless: codec.py
)

# from each format number to the next
MIGRATIONS: Mapping[int, Callable[[sql.Connection], None]] = {1: gates.create}
