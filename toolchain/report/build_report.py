"""The report of a build that no device has recorded in the ledger yet."""

import logging
from dataclasses import replace
from pathlib import Path

from deploy.ledger.change_points import find_release_changes
from deploy.ledger.ledger import Ledger
from toolchain.accuracy.kept import evaluation_folder, read_evaluation
from toolchain.errors import RecordError
from toolchain.paths import home
from toolchain.records.bundle import Bundle
from toolchain.report.content import RELEASES, ReportContent, find_previous
from toolchain.report.writer import write_report

logger = logging.getLogger(__name__)


def report_build(bundle: Bundle, ledger: str | None = None) -> Path:
    """Write it to .toolchain/reports/NAME-RELEASE, where `deploy` writes it too, and return the page's path. A ledger
    that cannot be used ends no build: a warning says that the report is without earlier releases."""
    manifest = bundle.manifest
    content = ReportContent(
        bundle.digest, manifest, None, (), seen=read_evaluation(evaluation_folder(home(), bundle.digest))
    )
    try:
        with Ledger(ledger) as book:
            history, gates = book.history(manifest.name, RELEASES), book.gates(bundle.digest)
            content = replace(
                content,
                gate=gates[-1] if gates else None,
                history=history,
                changes=find_release_changes(history),
                previous=find_previous(bundle.digest, manifest, book),
            )
    except RecordError as error:
        logger.warning(f"warning: the report is without earlier releases: {error}")
    return Path(write_report(content, home() / "reports" / f"{manifest.name}-{manifest.release}")["report"])
