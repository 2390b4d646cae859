"""Contrast (WCAG 2 AA) and overflow of a page, at each width and in light and dark, in Debian's Chromium.

What is measured is in page_audit.js: each visible text against the colours painted under it, plots too; what is cut
off, leaves the window, or scrolls out of the keyboard's reach; text of a plot that is smaller than 9 pixels.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS = (360, 768, 1280)
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
HEIGHT = 800
SCRIPT = Path(__file__).with_name("page_audit.js")
Prepare = Callable[[Page], None]


class PageAudit(NamedTuple):
    """faults: sentences; empty for a page without any."""

    width: int
    scheme: Scheme
    faults: tuple[str, ...]


def missing_browser() -> str | None:
    """Why no page can be audited here; None when one can."""
    return None if shutil.which("chromium") else "no chromium here: deploy/setup.sh servers"


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            yield browser
        finally:
            browser.close()


def audit_page(
    browser: Browser, address: str, prepare: Prepare = lambda _: None, pictures: Path | None = None
) -> tuple[PageAudit, ...]:
    """The page at `address` in every width and scheme. prepare: waits for what comes late, and opens what is closed.
    pictures: a folder for screenshots."""
    return tuple(
        _audit_view(browser, address, width, scheme, prepare, pictures) for scheme in SCHEMES for width in WIDTHS
    )


def _audit_view(
    browser: Browser, address: str, width: int, scheme: Scheme, prepare: Prepare, pictures: Path | None
) -> PageAudit:
    context = browser.new_context(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(address)
        prepare(page)
        # what lies outside the window is not asked what is painted under it
        height = int(page.evaluate("document.documentElement.scrollHeight"))
        page.set_viewport_size({"width": width, "height": max(height, HEIGHT)})
        faults = page.evaluate(f"({SCRIPT.read_text().partition('*/')[2].strip()})()")
        if pictures is not None:
            page.screenshot(path=pictures / f"{width}-{scheme}.png", full_page=True)
        return PageAudit(width, scheme, tuple(faults))
    finally:
        context.close()
