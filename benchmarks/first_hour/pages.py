"""The report and the server's page in a browser: contrast and overflow at 360, 768 and 1280 px, light and dark.

PICTURES=folder: also writes what was seen, to look at.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from playwright.sync_api import FilePayload, Page

from benchmarks.first_hour.page_audit import PageAudit, audit_page, missing_browser, open_browser
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.records.manifest import ParityRecord

WAIT_MS = 60_000
PARITY = ParityRecord(
    *("torch fp32", "openvino int8", 64, 0.3, 0.1, 0.02, 0.99, 3, 0.9, 0.85),
    passed=True,
)


def rows() -> list[Row]:
    return list(_measure())


def _measure() -> Iterator[Row]:
    if reason := missing_browser():
        yield Row("report and page in a browser", None, "<= 0 faults", False, reason)
        return
    with TemporaryDirectory() as name, open_browser() as browser:
        folder = Path(name)
        yield _page_row("report", audit_page(browser, draw_report(folder).as_uri(), open_details, _pictures("report")))
        with serve_drawn(folder) as address:
            answered = audit_page(browser, address, ask_server, _pictures("answer"))
            refused = audit_page(browser, address, annoy_server, _pictures("error"))
        yield _page_row("server's page with an answer", answered)
        yield _page_row("server's page with an error", refused)


def _page_row(what: str, audits: tuple[PageAudit, ...]) -> Row:
    faults = [f"{one.width} px, {one.scheme}: {fault}" for one in audits for fault in one.faults]
    named = f"{what}: contrast and overflow in {len(audits)} views"
    return row(named, len(faults), "<=", 0, "faults", "; ".join(faults))


def _pictures(what: str) -> Path | None:
    if not (folder := os.environ.get("PICTURES")):
        return None
    place = Path(folder) / what
    place.mkdir(parents=True, exist_ok=True)
    return place


def open_details(page: Page) -> None:
    """What is folded away is read too."""
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def draw_report(folder: Path) -> Path:
    """A report with everything in it that a report may have, of two releases of the null engine."""
    from deploy.ledger.ledger import Ledger
    from tests.bundles import null_bundle
    from tests.deploy.ledger.ledgers import gate_of, report
    from tests.report.seen import keep_drawn
    from tests.report.test_report import CANDIDATES, STEPS, lines
    from toolchain.records.gate import BASELINE, Finding
    from toolchain.report.content import read_report_content
    from toolchain.report.writer import write_report

    finding = Finding("p50", BASELINE, "regressed", 0.05, 0.04, 0.06, 0.03, 0.001, "seen in both of two runs")
    with Ledger(folder / "ledger.sqlite") as book:
        for number in ("1", "2"):
            bundle = null_bundle(folder / number, release=number, steps=STEPS, candidates=CANDIDATES, parity=(PARITY,))
            book.record_release(bundle, 5)
            book.record_report(report(bundle.digest, release=number, measured_at=f"2026-01-0{number}"))
        gate = gate_of(bundle.digest, "b" * 64, reason="p50 is 5.0 % slower", rounds=lines(0.05), findings=(finding,))
        book.record_gate(msgspec.structs.replace(gate, confirming=lines(0.05), verdict="regressed"))
        content = read_report_content("null", None, book)
    assert content.previous is not None
    before = msgspec.structs.replace(content.previous, recipe="name = 'null'\n", tools={"torch": "2.8.0"})
    whole = replace(content, seen=keep_drawn(folder, bundle.digest), previous=before)
    return Path(write_report(whole, folder / "report")["report"])


@contextmanager
def serve_drawn(folder: Path) -> Iterator[str]:
    """The address of a server that has certified itself, with a class of a long name."""
    from tests.bundles import null_bundle
    from tests.deploy.runtime.server import serving
    from tests.report.seen import CLASSES

    bundle = null_bundle(folder / "served.bundle", labels=CLASSES, delay_ms=2)
    (folder / "state").mkdir()
    environment = {"CERTIFY": "first", "CERTIFY_SECONDS": "0.1"}
    with serving(bundle.folder, "--state", folder / "state", **environment) as running:
        yield f"http://127.0.0.1:{running.port}/"


def ask_server(page: Page) -> None:
    """An answer, the certificate and the form for a token, all at once."""
    from tests.deploy.runtime.protocol.test_protocol_client import picture

    page.locator("#certificate .verdict").wait_for(timeout=WAIT_MS)
    image: FilePayload = {"name": "grey.jpg", "mimeType": "image/jpeg", "buffer": picture()}
    page.get_by_label("Choose a picture").set_input_files([image])
    page.locator("#top li").first.wait_for(timeout=WAIT_MS)
    page.get_by_text("Pictures since start").wait_for(timeout=WAIT_MS)
    open_details(page)


def annoy_server(page: Page) -> None:
    """What is shown for a file that is no image."""
    page.locator("#certificate .verdict").wait_for(timeout=WAIT_MS)
    broken: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.get_by_label("Choose a picture").set_input_files([broken])
    page.locator("#error").wait_for(timeout=WAIT_MS)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
