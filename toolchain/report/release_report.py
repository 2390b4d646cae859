"""The report on a release, written where it belongs."""

from pathlib import Path

from deploy.ledger.ledger import Ledger
from toolchain.paths import home
from toolchain.report.content import read_report_content
from toolchain.report.writer import write_report


def report_release(
    name: str, release: str | None = None, out: Path | None = None, ledger: str | None = None
) -> dict[str, str]:
    """Write it to `out`, by default .toolchain/reports/NAME-RELEASE; the release and the files by what they are, the
    page as `report`. release: by default the newest in the ledger; ledger: a database URL."""
    with Ledger(ledger) as book:
        content = read_report_content(name, release, book)
    reported = content.manifest.release
    return {"release": reported, **write_report(content, out or home() / "reports" / f"{name}-{reported}")}
