"""The report of a build that no device has recorded in the ledger yet."""

from pathlib import Path

from deploy.ledger.change_points import find_release_changes
from deploy.ledger.ledger import Ledger
from toolchain.accuracy.kept import evaluation_folder, read_evaluation
from toolchain.paths import home
from toolchain.records.bundle import Bundle
from toolchain.report.content import RELEASES, ReportContent, find_previous
from toolchain.report.writer import write_report


def report_build(bundle: Bundle, ledger: str | None = None) -> Path:
    """Write it to .toolchain/reports/NAME-RELEASE, where `deploy` writes it too, and return the page's path."""
    manifest = bundle.manifest
    with Ledger(ledger) as book:
        history, gates = book.history(manifest.name, RELEASES), book.gates(bundle.digest)
        content = ReportContent(
            bundle.digest,
            manifest,
            gates[-1] if gates else None,
            history,
            find_release_changes(history),
            find_previous(bundle.digest, manifest, book),
            read_evaluation(evaluation_folder(home(), bundle.digest)),
        )
    return Path(write_report(content, home() / "reports" / f"{manifest.name}-{manifest.release}")["report"])
