"""What builds predicted of int8 sums, against what the certificates of devices without VNNI say."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sql

from deploy.ledger.schema import certificates, releases
from toolchain.records.certificate import FORMAT as CERTIFICATE_FORMAT
from toolchain.records.certificate import Certificate, SaturationOutcome, saturation_outcomes
from toolchain.records.manifest import FORMAT as MANIFEST_FORMAT
from toolchain.records.manifest import Manifest
from toolchain.records.storage import decode_record


def predictions_query(name: str | None) -> sql.Select[Any]:
    """Every release with each of its certificates, oldest first; name: of one model only."""
    columns = (releases.c.bundle, releases.c.manifest, certificates.c.device, certificates.c.document)
    query = sql.select(*columns).join(certificates, certificates.c.bundle == releases.c.bundle)
    if name is not None:
        query = query.where(releases.c.name == name)
    return query.order_by(certificates.c.issued_at)


def newest_outcomes(rows: Iterable[Any], place: str) -> tuple[SaturationOutcome, ...]:
    """rows: of predictions_query; of several certificates of a release on a device, the newest counts."""
    newest = {(bundle, device): (manifest, document) for bundle, manifest, device, document in rows}
    return tuple(
        outcome
        for manifest, document in newest.values()
        for outcome in saturation_outcomes(
            decode_record(manifest.encode(), Manifest, place, MANIFEST_FORMAT),
            decode_record(document.encode(), Certificate, place, CERTIFICATE_FORMAT),
        )
    )
