"""The report of a build that no device has recorded in the ledger yet."""

import logging
from pathlib import Path

from deploy.ledger.ledger import Ledger
from toolchain.errors import RecordError
from toolchain.paths import home
from toolchain.records.bundle import Bundle
from toolchain.report.content import RELEASES, built_content, complete_content
from toolchain.report.writer import write_report

logger = logging.getLogger(__name__)


def report_build(bundle: Bundle, ledger: str | None = None) -> Path:
    """Write it to .toolchain/reports/NAME-RELEASE, where `deploy` writes it too, and return the page's path. A ledger
    that cannot be used ends no build: a warning says that the report is without earlier releases."""
    manifest = bundle.manifest
    content = built_content(bundle.digest, manifest)
    try:
        with Ledger(ledger) as book:
            content = complete_content(content, book.history(manifest.name, RELEASES), book)
    except RecordError as error:
        logger.warning(f"warning: the report is without earlier releases: {error}")
    return Path(write_report(content, home() / "reports" / f"{manifest.name}-{manifest.release}")["report"])
